// Package apps builds real services, nginx, PostgreSQL and Redis, from Debian packages into
// container images, each in two versions, and from those into applications.
//
// layouts.sh makes the OCI layouts; NAME.toml describes each application; files/NAME is what
// its second layer adds: accounts and configuration. `make apps` leaves all of it in
// .cache/apps. A test builds what is cached, and nginx in any case.
//
// Other tests tell the story of an application on a host without slots, with the real
// commands and a real container runtime: the whole of it of a small application (notes),
// with the commands of twinkeel app; and the update of real services from one version
// to the other with what it keeps, of nginx in any case, of Redis where its layouts
// are cached:
//
//	make apps && go test ./examples/apps -run 'TestNginx|TestRedis' -v
package apps
