// Package apps builds real services, nginx, PostgreSQL and Redis, from Debian packages into
// container images, each in two versions, and from those into applications.
//
// layouts.sh makes the OCI layouts; NAME.toml describes each application; files/NAME is what
// its second layer adds: accounts and configuration. `make apps` leaves all of it in
// .cache/apps. A test makes what is not cached.
//
// Other tests tell the story of an application on a host without slots, with the real
// commands and a real container runtime: the whole of it of a small application (notes),
// with the commands of twinkeel app; and the update of real services from one version
// to the other with what it keeps: of nginx (of class system, with an application
// that starts after it and goes on whatever becomes of it), of Redis and of PostgreSQL. On two idle
// cores all layouts are made in 60 s, and the three tests take 153 s with the race detector, of
// which most is making PostgreSQL's images and deltas.
//
//	make apps && go test ./examples/apps -run 'TestNginx|TestRedis|TestPostgreSQL' -timeout 30m -v
//
// The story of notes kills agent, shim, both, or the runtime at work, at each step that the
// journal of an update names: each step once; with TWINKEEL_LONG each victim at three moments
// of each step, of an update that fails and of one in parallel, too. Played at one moment of
// each, that is 160 kills in 120 s of processor time:
//
//	TWINKEEL_LONG=1 go test ./examples/apps -run FromImage -timeout 1h -v
//
// PostgreSQL goes from 15.18 to 15.20 (1.4 of 40.5 MB moved), is left by a version that alters
// a table and then fails, and goes back to 15.18: each time the rows of the table, and the
// file that they lie in, are what they were.
package apps
