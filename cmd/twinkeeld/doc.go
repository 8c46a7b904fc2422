// Command twinkeeld is the agent of a host: it polls, stages, tries, commits and goes
// back, and answers the operator's command on a local socket.
//
// It runs as root and never touches the network. For that it starts itself once more,
// as "twinkeeld fetcher" and without privileges, or uses a fetcher that the service
// manager keeps.
//
// Rules of output: the log goes to standard error, one record a line, as text or JSON;
// nothing goes to standard output but what --help and --version print. Whatever comes
// from outside is quoted by the log's encoding. The last line of a run that failed is
// "twinkeeld: " and the error.
package main
