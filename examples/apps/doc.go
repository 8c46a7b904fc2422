// Package apps builds real services, nginx, PostgreSQL and Redis, from Debian packages into
// container images, each in two versions, and from those into applications.
//
// layouts.sh makes the OCI layouts; NAME.toml describes each application; files/NAME is what
// its second layer adds: accounts and configuration. `make apps` leaves all of it in
// .cache/apps. A test builds what is cached, and nginx in any case.
//
// Another test tells the whole story of a small application (notes) on a host without
// slots, with the real commands and a real container runtime.
package apps
