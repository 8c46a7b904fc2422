// Package appbuild turns a container image into an application: one EROFS image and the
// manifest of what runs in it.
//
// The nouns: a Spec is what the publisher wrote into app.toml; a source is a container
// image in a tar of `docker save`, in an OCI layout or in a registry; a Draft is the result,
// an application that is not published yet, in a directory of two files.
//
// Promises. The same layers and spec give the same bytes and the same digest, whatever form
// the image came in and whoever builds. Nothing needs root: the layers are put on top of
// each other in a tree in memory that knows names only, their bytes lie in one spool file.
// Every layer is compared with the digest that the image's configuration gives. No entry of
// a layer leads out of the image: links on the way to a name are followed inside of it, as
// a runtime would; `..` and absolute names are refused. Limits on files and bytes are
// checked while reading.
//
// What has no place in an application: set-user-id bits and file capabilities do nothing on
// a host, so they are dropped, and said to be; device nodes below /dev are dropped, as hosts
// bring their own, and refused elsewhere.
//
// The spec's keys are those of docs/format-app.md. What it does not say is taken from the
// image's configuration, then from defaults.
//
// go-containerregistry stays behind this package; no type of it is in the API.
package appbuild
