package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
)

// pkg is a package.
type pkg struct {
	name        string
	summary     string
	text        string // what follows the summary
	section     string
	depends     []string
	recommends  []string
	suggests    []string
	contents    []content
	services    []string // units that are enabled, and started if the machine runs
	hasAccounts bool     // it brings sysusers.d and tmpfiles.d files of its name
}

// content is a file, or all that a pattern finds, and the path or, with a final slash,
// the directory that it is put to. A source begins with src/ for the source tree, with
// bin/ for what was compiled, and else lies in the work directory.
type content struct {
	from, to string
	conffile bool
	program  bool // it can be run; what was compiled always can
}

var packages = []pkg{
	{
		name: "twinkeel", section: "admin", summary: "see and steer the updates of this host",
		text: "twinkeel shows what a host with two system slots runs, what it would install\n" +
			"next and what keeps it from doing so, and takes an operator's decisions:\n" +
			"update, hold, roll back. It needs neither daemon nor network to go back.",
		recommends: []string{"twinkeeld"},
		contents: []content{
			{from: "bin/twinkeel", to: "/usr/bin/"},
			{from: "man/twinkeel.1.gz", to: "/usr/share/man/man1/"},
			{from: "man/twinkeel-[^s]*.1.gz", to: "/usr/share/man/man1/"},
			{from: "man/twinkeel-status.1.gz", to: "/usr/share/man/man1/"},
			{from: "complete/bash/twinkeel", to: "/usr/share/bash-completion/completions/twinkeel"},
			{from: "complete/zsh/twinkeel", to: "/usr/share/zsh/vendor-completions/_twinkeel"},
			{from: "complete/fish/twinkeel", to: "/usr/share/fish/vendor_completions.d/twinkeel.fish"},
		},
	},
	{
		name: "twinkeeld", section: "admin", summary: "transactional updates of this host over two slots",
		text: "The agent polls an update server, stages signed releases into the idle one of\n" +
			"two slots, by delta where it can, tries them for one boot, judges them, and\n" +
			"commits them or goes back by itself. Downloads run in a service without\n" +
			"privileges. It does nothing until /etc/twinkeel/twinkeel.toml is there.",
		depends: []string{"systemd", "twinkeel (= VERSION)"}, hasAccounts: true,
		suggests: []string{"crun | runc"}, // of hosts that run applications
		services: []string{"twinkeel-fetcher.socket", "twinkeel-adopt.service", "twinkeeld.service"},
		contents: []content{
			{from: "bin/twinkeeld", to: "/usr/bin/"},
			{from: "bin/twinkeel-init", to: "/usr/lib/twinkeel/"},
			{from: "bin/twinkeel-shim", to: "/usr/lib/twinkeel/"},
			{from: "man/twinkeeld.8.gz", to: "/usr/share/man/man8/"},
			{from: "src/examples/systemd/*.service", to: "/usr/lib/systemd/system/"},
			{from: "src/examples/systemd/*.socket", to: "/usr/lib/systemd/system/"},
			{from: "src/examples/systemd/sysusers.d/twinkeel.conf", to: "/usr/lib/sysusers.d/twinkeeld.conf"},
			{from: "src/examples/systemd/tmpfiles.d/twinkeel.conf", to: "/usr/lib/tmpfiles.d/twinkeeld.conf"},
			{from: "src/examples/initramfs-tools/hook", to: "/usr/share/initramfs-tools/hooks/twinkeel", program: true},
			{from: "src/examples/initramfs-tools/script", to: "/usr/share/initramfs-tools/scripts/twinkeel"},
			{from: "src/examples/systemd/conf.d/50-fetcher.toml", to: "/etc/twinkeel/conf.d/", conffile: true},
			{from: "src/examples/systemd/twinkeel.toml", to: "/usr/share/doc/twinkeeld/examples/"},
			{from: "src/examples/systemd/apps.conf", to: "/usr/share/doc/twinkeeld/examples/"},
		},
	},
	{
		name: "twinkeel-server", section: "admin", summary: "publish and serve updates for hosts with two slots",
		text: "twinkeel-server turns images into signed releases with deltas, keeps them in\n" +
			"a directory of static files, serves it, and makes the disks of new hosts.",
		depends: []string{"systemd"}, hasAccounts: true,
		suggests: []string{"dosfstools", "e2fsprogs", "grub-efi-amd64-bin", "grub-pc-bin", "grub-common", "mtools", "systemd-boot-efi"},
		services: []string{"twinkeel-renew.timer", "twinkeel-check.timer"},
		contents: []content{
			{from: "bin/twinkeel-server", to: "/usr/bin/"},
			{from: "man/twinkeel-server*.1.gz", to: "/usr/share/man/man1/"},
			{from: "complete/bash/twinkeel-server", to: "/usr/share/bash-completion/completions/twinkeel-server"},
			{from: "complete/zsh/twinkeel-server", to: "/usr/share/zsh/vendor-completions/_twinkeel-server"},
			{from: "complete/fish/twinkeel-server", to: "/usr/share/fish/vendor_completions.d/twinkeel-server.fish"},
			{from: "src/examples/systemd/publisher/*.service", to: "/usr/lib/systemd/system/"},
			{from: "src/examples/systemd/publisher/*.timer", to: "/usr/lib/systemd/system/"},
			{from: "src/examples/systemd/publisher/sysusers.d/twinkeel-server.conf", to: "/usr/lib/sysusers.d/"},
			{from: "src/examples/systemd/publisher/tmpfiles.d/twinkeel-server.conf", to: "/usr/lib/tmpfiles.d/"},
			{from: "src/examples/systemd/publisher/prometheus-alerts.yml", to: "/usr/share/doc/twinkeel-server/examples/"},
		},
	},
}

// pack writes a package for an architecture into the directory out and returns its path.
func (t tree) pack(p pkg, arch, out string) (string, error) {
	info := &nfpm.Info{
		Name: p.name, Arch: arch, Platform: "linux", Version: t.top.version, VersionSchema: "none",
		Section: p.section, Priority: "optional", MTime: t.top.date, DisableGlobbing: true,
		Maintainer: "twinkeel developers <twinkeel@twinkeel.example>", Homepage: "https://github.com/twinkeel/twinkeel",
		Description: p.summary + "\n" + p.text,
	}
	info.Deb.Compression = "xz"
	info.Umask = 0o022
	for _, d := range p.depends {
		info.Depends = append(info.Depends, strings.ReplaceAll(d, "VERSION", t.top.version))
	}
	info.Recommends, info.Suggests = p.recommends, p.suggests
	contents := append(p.contents[:len(p.contents):len(p.contents)],
		content{from: "src/packaging/debian/copyright", to: "/usr/share/doc/" + p.name + "/copyright"},
		content{from: "changelog.gz", to: "/usr/share/doc/" + p.name + "/changelog.gz"})
	if err := t.changelog(); err != nil {
		return "", err
	}
	for _, c := range contents {
		list, err := t.expand(c, arch)
		if err != nil {
			return "", err
		}
		info.Contents = append(info.Contents, list...)
	}
	if err := t.scripts(p, info); err != nil {
		return "", err
	}
	path := filepath.Join(out, deb.Default.ConventionalFileName(info))
	f, err := os.Create(path + ".partial")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := deb.Default.Package(nfpm.WithDefaults(info), f); err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return path, os.Rename(path+".partial", path)
}

func (t tree) changelog() error {
	b, err := os.ReadFile(filepath.Join(t.source, "packaging/debian/changelog"))
	if err != nil {
		return err
	}
	if b, err = zip(b); err != nil {
		return err
	}
	return write(filepath.Join(t.work, "changelog.gz"), b)
}

// expand returns the files of c. A pattern that finds nothing is an error.
func (t tree) expand(c content, arch string) (list files.Contents, err error) {
	pattern := filepath.Join(t.work, c.from)
	mode := os.FileMode(0o644)
	if rest, ok := strings.CutPrefix(c.from, "src/"); ok {
		pattern = filepath.Join(t.source, rest)
	}
	if rest, ok := strings.CutPrefix(c.from, "bin/"); ok {
		pattern, mode = filepath.Join(t.work, "bin", arch, rest), 0o755
	}
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("contents %s: got no file, want some: %v", c.from, err)
	}
	for _, f := range found {
		to := c.to
		if strings.HasSuffix(to, "/") {
			to += filepath.Base(f)
		}
		kind := files.TypeFile
		if c.conffile {
			kind = files.TypeConfig
		}
		if c.program {
			mode = 0o755
		}
		list = append(list, &files.Content{Source: f, Destination: to, Type: kind,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: t.top.date}})
	}
	return list, nil
}
