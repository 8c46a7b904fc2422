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
	// Except is a directory below the pattern's that the rule leaves alone.
	Except string
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
		waiting  = "waits to be sent or done, and every host would do it"
	)
	return []Rule{
		{Pattern: "etc/machine-id", Why: identity, Empty: true},
		{Pattern: "var/lib/dbus/machine-id", Why: identity, Empty: true},
		{Pattern: "etc/iscsi/initiatorname.iscsi", Why: identity, Empty: true},
		{Pattern: "etc/nvme/hostid", Why: identity, Empty: true},
		{Pattern: "etc/nvme/hostnqn", Why: identity, Empty: true},
		{Pattern: "var/lib/NetworkManager/secret_key", Why: secret},
		{Pattern: "etc/ssh/ssh_host_*", Why: secret},
		{Pattern: "etc/ssl/private/ssl-cert-snakeoil.key", Why: secret},
		{Pattern: "var/lib/systemd/credential.secret", Why: secret},
		{Pattern: "var/lib/systemd/random-seed", Why: secret},
		{Pattern: "var/lib/urandom/random-seed", Why: secret},
		{Pattern: "var/lib/twinkeel/**", Why: identity},
		{Pattern: "etc/hostname", Why: builder, Empty: true},
		{Pattern: "etc/resolv.conf", Why: builder, Empty: true},
		{Pattern: "var/lib/dhcp/**", Why: builder, Empty: true},
		{Pattern: "root/.bash_history", Why: builder},
		{Pattern: "var/log/**", Why: when, Empty: true},
		{Pattern: "var/lib/NetworkManager/timestamps", Why: when},
		{Pattern: "var/spool/**", Why: waiting, Empty: true, Except: "var/spool/cron/crontabs"},
		{Pattern: "var/cache/**", Why: cache},
		{Pattern: "var/lib/apt/lists/**", Why: cache},
		{Pattern: "var/lib/systemd/catalog/database", Why: cache},
		{Pattern: "**/__pycache__/**", Why: cache},
		{Pattern: "var/lib/dpkg/*-old", Why: when},
		{Pattern: "etc/.pwd.lock", Why: when},
		{Pattern: "etc/*-", Why: when},
		{Pattern: "tmp/**", Why: volatile},
		{Pattern: "var/tmp/**", Why: volatile},
		{Pattern: "run/**", Why: volatile},
		{Pattern: "proc/**", Why: volatile},
		{Pattern: "sys/**", Why: volatile},
		{Pattern: "dev/**", Why: volatile},
	}
}

// covers reports whether a rule speaks of a path.
func (r Rule) covers(name string) bool {
	if r.Except != "" && strings.HasPrefix(name, r.Except+"/") {
		return false
	}
	if dir, ok := strings.CutSuffix(r.Pattern, "/**"); ok {
		if last, ok := strings.CutPrefix(dir, "**/"); ok {
			return strings.Contains("/"+name, "/"+last+"/")
		}
		return strings.HasPrefix(name, dir+"/")
	}
	ok, err := path.Match(r.Pattern, name)
	return ok && err == nil
}
