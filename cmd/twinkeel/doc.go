// Command twinkeel is what an operator types on a host: what runs, what would come
// next and what keeps it away, and the few decisions that are theirs: update, roll
// back, hold, allow again.
//
// It asks the daemon over its socket. Where no daemon answers it opens the agent in
// its own process, so that everything — above all rollback — works with nothing else
// alive.
package main
