package images

import (
	"path"
	"strings"
)

// Rule is a kind of file that must not be in an image.
type Rule struct {
	Pattern string // of path.Match; a final /** takes in all below a directory, a first **/ any directory
	Why     string
	// Empty says that only content is refused: an empty file of this name has a meaning.
	Empty bool
}

// Rules are the files that make two builds differ, or two hosts alike that must not be.
// They concern files and links: a directory alone harms nobody.
func Rules() []Rule {
	const (
		identity = "makes every host the same machine"
		secret   = "is a secret of one machine, on all of them"
		builder  = "tells of the machine that built the image"
		when     = "tells when the image was built"
		cache    = "is a cache, written in another order or with other times by each build"
		volatile = "is not kept over a reboot"
	)
	return []Rule{
		{"etc/machine-id", identity, true},
		{"var/lib/dbus/machine-id", identity, true},
		{"etc/ssh/ssh_host_*", secret, false},
		{"etc/ssl/private/ssl-cert-snakeoil.key", secret, false},
		{"var/lib/systemd/credential.secret", secret, false},
		{"var/lib/systemd/random-seed", secret, false},
		{"var/lib/urandom/random-seed", secret, false},
		{"var/lib/twinkeel/**", identity, false},
		{"etc/hostname", builder, true},
		{"etc/resolv.conf", builder, true},
		{"root/.bash_history", builder, false},
		{"var/log/**", when, true},
		{"var/cache/**", cache, false},
		{"var/lib/apt/lists/**", cache, false},
		{"var/lib/systemd/catalog/database", cache, false},
		{"**/__pycache__/**", cache, false},
		{"var/lib/dpkg/*-old", when, false},
		{"etc/.pwd.lock", when, false},
		{"etc/*-", when, false},
		{"tmp/**", volatile, false},
		{"var/tmp/**", volatile, false},
		{"run/**", volatile, false},
		{"proc/**", volatile, false},
		{"sys/**", volatile, false},
		{"dev/**", volatile, false},
	}
}

// covers reports whether a rule speaks of a path.
func (r Rule) covers(name string) bool {
	if dir, ok := strings.CutSuffix(r.Pattern, "/**"); ok {
		if last, ok := strings.CutPrefix(dir, "**/"); ok {
			return strings.Contains("/"+name, "/"+last+"/")
		}
		return strings.HasPrefix(name, dir+"/")
	}
	ok, err := path.Match(r.Pattern, name)
	return ok && err == nil
}
