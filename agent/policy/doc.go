// Package policy answers "may this be done now, and if not, why and until when".
//
// Its nouns are Windows (the local times at which a host may install), Poll (when a
// host asks for news) and Decision (go ahead, or a stable reason code with a text and
// the time at which asking again is worth while). Everything is a pure function of
// values handed in: no clock, no disk, no randomness of its own. A closed decision
// only ever delays a new install; nothing here is asked on the way back to an old
// release.
//
// The package imports release for the directive and nothing else of this project, so
// that the agent can use it and a test can try it without one. It never imports
// agent: reason codes are plain strings that equal agent's.
package policy
