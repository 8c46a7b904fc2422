package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/cpio"
	"github.com/twinkeel/twinkeel/internal/erofs"
)

var epoch = time.Unix(1700000000, 0).UTC()

// node is a file of a source.
type node struct {
	name, content, link string
	mode                fs.FileMode
	age                 time.Duration // before epoch
}

// initrd returns an archive with one file.
func initrd(name, content string) string {
	var a cpio.Archive
	a.Add(name, cpio.Regular|0o644, []byte(content))
	return string(a.Bytes())
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

// system is a small root file system.
func system() []node {
	early, main := initrd("microcode", "early"), initrd("init", strings.Repeat("main", 100))
	return []node{
		{name: "boot", mode: fs.ModeDir | 0o755},
		{name: "boot/vmlinuz-6.1", content: "kernel", mode: 0o644},
		{name: "boot/initrd.img-6.1", content: early + strings.Repeat("\x00", 512) + gzipped(main), mode: 0o600},
		{name: "vmlinuz", link: "boot/vmlinuz-6.1", mode: fs.ModeSymlink | 0o777},
		{name: "etc", mode: fs.ModeDir | 0o755},
		{name: "etc/machine-id", mode: 0o444},
		{name: "etc/motd", content: "hello", mode: 0o644, age: time.Hour},
		{name: "etc/issue", content: "new", mode: 0o640, age: -time.Hour},
		{name: "var", mode: fs.ModeDir | 0o755},
		{name: "var/log", mode: fs.ModeDir | 0o755},
		{name: "usr", mode: fs.ModeDir | 0o755},
		{name: "usr/run", content: "setuid", mode: fs.ModeSetuid | 0o755, age: time.Minute},
	}
}

// asDir writes the nodes into a directory, in the given order.
func asDir(t *testing.T, list []node) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range list {
		at := filepath.Join(dir, n.name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch n.mode.Type() {
		case fs.ModeDir:
			err = os.MkdirAll(at, n.mode.Perm())
		case fs.ModeSymlink:
			err = os.Symlink(n.link, at)
		default:
			if err = os.WriteFile(at, []byte(n.content), 0o600); err == nil {
				err = errors.Join(os.Chmod(at, n.mode), os.Chtimes(at, epoch.Add(-n.age), epoch.Add(-n.age)))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range list { // directories changed with each file
		if n.mode.IsDir() {
			if err := os.Chtimes(filepath.Join(dir, n.name), epoch, epoch.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// asTar writes them into an archive.
func asTar(t *testing.T, list []node) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "source.tar")
	f, err := os.Create(at)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, n := range list {
		h := &tar.Header{Name: "./" + n.name, Mode: int64(n.mode.Perm()), Size: int64(len(n.content)), ModTime: epoch.Add(-n.age), Typeflag: tar.TypeReg}
		switch {
		case n.mode.IsDir():
			h.Typeflag, h.ModTime = tar.TypeDir, epoch.Add(time.Minute)
		case n.mode.Type() == fs.ModeSymlink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, n.link
		case n.mode&fs.ModeSetuid != 0:
			h.Mode |= 0o4000
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(n.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return at
}

func build1(t *testing.T, o Options) *Result {
	t.Helper()
	o.Output, o.Time = t.TempDir(), epoch
	if o.Loader == "" {
		o.Loader = GRUB
	}
	r, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTwoBuildsInTwoDirectoriesAreTheSame(t *testing.T) {
	list := system()
	slices.SortFunc(list, func(a, b node) int { return strings.Compare(b.name, a.name) }) // links and files before their directories
	loaders := []string{GRUB}
	if _, err := os.Stat(stub); err == nil {
		loaders = append(loaders, SDBoot)
	} else if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	for _, loader := range loaders {
		first := build1(t, Options{Source: asDir(t, system()), Loader: loader})
		if loader == SDBoot {
			time.Sleep(1100 * time.Millisecond) // a second in which tools could write another time
		}
		second := build1(t, Options{Source: asDir(t, list), Loader: loader})
		third := build1(t, Options{Source: asTar(t, system()), Loader: loader})
		for name, image := range first.Images {
			if second.Images[name].SHA256 != image.SHA256 {
				t.Errorf("%s, %s: the same files, made in another order, give other bytes", loader, name)
			}
			// Links in a directory have a time of their own, which an archive's maker chooses.
			if os.Geteuid() == 0 && name == "boot" && third.Images[name].SHA256 != image.SHA256 {
				t.Errorf("%s, %s: a directory and an archive of it give other bytes", loader, name)
			}
		}
	}
}

func TestKernelAndInitrdAreUnpackedIntoTheBootImage(t *testing.T) {
	r := build1(t, Options{Source: asTar(t, system())})
	b, err := os.ReadFile(r.Images["boot"].Path)
	if err != nil || len(b)%4096 != 0 {
		t.Fatalf("boot image: got %d bytes, %v", len(b), err)
	}
	want := map[string]string{"vmlinuz": "kernel",
		"initrd.img": initrd("microcode", "early") + strings.Repeat("\x00", 512) + initrd("init", strings.Repeat("main", 100))}
	reader := tar.NewReader(bytes.NewReader(b))
	for range want {
		h, err := reader.Next()
		if err != nil {
			t.Fatal(err)
		}
		var content bytes.Buffer
		if _, err := content.ReadFrom(reader); err != nil || content.String() != want[h.Name] || !h.ModTime.Equal(epoch) {
			t.Errorf("%s of %s: got %q, %v", h.Name, h.ModTime, content.String(), err)
		}
	}
	root, err := os.ReadFile(r.Images["root"].Path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	err = erofs.Walk(bytes.NewReader(root), int64(len(root)), func(f erofs.File) error {
		names = append(names, f.Path)
		return nil
	})
	slices.Sort(names)
	if want := []string{"etc/issue", "etc/machine-id", "etc/motd", "usr/run"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("root image: got %v, %v, want %v", names, err, want)
	}
	if r.Kernel != "6.1" || r.Clamped != 6 || r.LeftOut != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestWhatDiffersFromBuildToBuildIsRefusedWithTheReason(t *testing.T) {
	for _, c := range []struct{ name, content, why string }{
		{"etc/machine-id", "0123", "same machine"},
		{"etc/ssh/ssh_host_ed25519_key", "key", "secret of one machine"},
		{"var/lib/systemd/random-seed", "seed", "secret"},
		{"var/lib/twinkeel/host.json", "{}", "same machine"},
		{"etc/hostname", "builder\n", "built the image"},
		{"etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.1993-08.org.debian:01:ab\n", "same machine"},
		{"etc/nvme/hostid", "3f1c\n", "same machine"},
		{"etc/nvme/hostnqn", "nqn.2014-08.org.nvmexpress:uuid:3f1c\n", "same machine"},
		{"var/lib/NetworkManager/secret_key", "key", "secret of one machine"},
		{"var/lib/NetworkManager/timestamps", "[timestamps]\n", "when the image was built"},
		{"var/lib/dhcp/dhclient.eth0.leases", "lease {}\n", "built the image"},
		{"var/spool/mail/root", "From cron\n", "every host would do it"},
		{"var/spool/cron/crontabs/root", "0 0 * * * true\n", ""},
		{"var/log/dpkg.log", "today", "when the image was built"},
		{"var/cache/ldconfig/aux-cache", "x", "cache"},
		{"usr/lib/python3/__pycache__/os.pyc", "x", "cache"},
		{"tmp/x", "x", "not kept"},
	} {
		list := append(slices.DeleteFunc(system(), func(n node) bool { return n.name == c.name }), node{name: c.name, content: c.content, mode: 0o644})
		o := Options{Source: asTar(t, list), Output: t.TempDir(), Time: epoch, Loader: GRUB}
		_, err := Build(t.Context(), o)
		var refusal *Refusal
		if c.why == "" {
			if err != nil {
				t.Errorf("%s: got %v, want it in the image", c.name, err)
			}
			continue
		}
		if !errors.As(err, &refusal) || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "/"+c.name) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.why)
		}
		if left, err := os.ReadDir(o.Output); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind: %v, %v", c.name, left, err)
		}
		o.Tidy = true
		if r, err := Build(t.Context(), o); err != nil || r.LeftOut != 1 {
			t.Errorf("%s, tidied: got %+v, %v", c.name, r, err)
		}
	}
}

func TestSourcesThatMakeNoSystemAreRefused(t *testing.T) {
	without := func(name string) []node {
		return slices.DeleteFunc(system(), func(n node) bool { return n.name == name })
	}
	with := func(n node) []node { return append(without(n.name), n) }
	dir := asDir(t, system())
	if l, err := net.Listen("unix", filepath.Join(dir, "usr/s")); err != nil {
		t.Fatal(err)
	} else {
		defer l.Close()
	}
	packed := filepath.Join(t.TempDir(), "packed.tar.gz")
	if err := os.WriteFile(packed, []byte(gzipped("archive")), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ source, want string }{
		"nothing there":         {filepath.Join(dir, "absent"), "no such file"},
		"a socket":              {dir, "is a socket"},
		"a compressed archive":  {packed, "is it compressed?"},
		"no kernel":             {asTar(t, without("boot/vmlinuz-6.1")), "no vmlinuz-VERSION"},
		"two kernels":           {asTar(t, with(node{name: "boot/vmlinuz-5.10", content: "x", mode: 0o644})), "want one"},
		"no initrd":             {asTar(t, without("boot/initrd.img-6.1")), "initrd.img-6.1: is not there"},
		"an initrd that is not": {asTar(t, with(node{name: "boot/initrd.img-6.1", content: "hello", mode: 0o644})), "want a cpio archive"},
		"a torn initrd":         {asTar(t, with(node{name: "boot/initrd.img-6.1", content: gzipped("hello")[:20], mode: 0o644})), "initrd"},
	} {
		if _, err := Build(t.Context(), Options{Source: c.source, Output: t.TempDir(), Time: epoch, Loader: GRUB}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	for name, o := range map[string]Options{
		"no time":        {Source: dir, Loader: GRUB},
		"another loader": {Source: dir, Loader: "lilo", Time: epoch},
	} {
		if _, err := Build(t.Context(), o); err == nil {
			t.Errorf("%s: was built", name)
		}
	}
}

func TestTheFirstStageGetsItsModulesInTheOrderOfTheirNeeds(t *testing.T) {
	modules := "usr/lib/modules/6.1/"
	list := append(system(),
		node{name: FirstStage, content: "first stage", mode: 0o755},
		node{name: modules + "modules.dep", mode: 0o644, content: "kernel/dm-verity.ko: kernel/dm-bufio.ko kernel/dm-mod.ko\nkernel/dm-bufio.ko: kernel/dm-mod.ko\n" +
			"kernel/dm-mod.ko:\nkernel/erofs.ko.gz: kernel/libcrc32c.ko\nkernel/libcrc32c.ko:\nkernel/crc32c_generic.ko:\nkernel/xfs.ko: kernel/libcrc32c.ko\nkernel/sound.ko:\n"},
		// Debian's full kernel has the checksum as a module, which libcrc32c only asks for.
		node{name: modules + "modules.softdep", content: "# Soft dependencies\nsoftdep libcrc32c pre: crc32c\nsoftdep dm_mod post: sound\n", mode: 0o644},
		node{name: modules + "modules.alias", content: "# Aliases\nalias crc32c crc32c_generic\nalias pci:v00* sound\n", mode: 0o644},
		node{name: modules + "modules.builtin", content: "kernel/overlay.ko\n", mode: 0o644},
		node{name: modules + "kernel/erofs.ko.gz", content: gzipped("erofs"), mode: 0o644})
	for _, name := range []string{"dm-verity", "dm-bufio", "dm-mod", "libcrc32c", "crc32c_generic", "xfs", "sound"} {
		list = append(list, node{name: modules + "kernel/" + name + ".ko", content: name, mode: 0o644})
	}
	r := build1(t, Options{Source: asTar(t, list), Modules: []string{"xfs"}})
	b, err := os.ReadFile(r.Images["boot"].Path)
	if err != nil || !r.FirstStage {
		t.Fatal(r, err)
	}
	at := -1
	for _, want := range []string{"init\x00", "first stage", "modules/000-dm_mod.ko", "modules/001-dm_bufio.ko", "modules/002-dm_verity.ko",
		"modules/003-crc32c_generic.ko", "modules/004-libcrc32c.ko", "modules/005-erofs.ko\x00\x00erofs", "modules/006-xfs.ko", cpio.End} {
		next := bytes.Index(b, []byte(want))
		if next <= at {
			t.Errorf("%q: got it at %d, want it behind %d", want, next, at)
		}
		at = next
	}
	if bytes.Contains(b, []byte("sound")) {
		t.Error("a module that nobody asked for is there")
	}
	for name, want := range map[string]string{"zfs": "no module zfs"} {
		_, err := Build(t.Context(), Options{Source: asTar(t, list), Modules: []string{name}, Output: t.TempDir(), Time: epoch, Loader: GRUB})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// An image for another machine is the same work: nothing of the source is run.
func TestTheKernelOfAnotherMachineIsUnpackedAndNeverGetsThisOnesStub(t *testing.T) {
	kernel := make([]byte, 4096)
	copy(kernel, "MZ")
	kernel[0x3c] = 0x40
	copy(kernel[0x40:], "PE\x00\x00\x64\xaa") // AArch64
	list := slices.DeleteFunc(system(), func(n node) bool { return n.name == "boot/vmlinuz-6.1" })
	list = append(list, node{name: "boot/vmlinuz-6.1", content: gzipped(string(kernel)), mode: 0o644})
	r := build1(t, Options{Source: asTar(t, list)})
	b, err := os.ReadFile(r.Images["boot"].Path)
	if err != nil {
		t.Fatal(err)
	}
	reader := tar.NewReader(bytes.NewReader(b))
	h, err := reader.Next()
	if err != nil || h.Name != "vmlinuz" || h.Size != int64(len(kernel)) {
		t.Errorf("got %+v, %v, want the kernel unpacked", h, err)
	}
	_, err = Build(t.Context(), Options{Source: asTar(t, list), Output: t.TempDir(), Time: epoch, Loader: SDBoot})
	if err == nil || !strings.Contains(err.Error(), "0xaa64") {
		t.Errorf("a unified kernel image: got %v", err)
	}
	for _, bad := range []string{"", "MZ", "MZ" + strings.Repeat("\xff", 100)} {
		if m := machineOf([]byte(bad)); m != 0 {
			t.Errorf("%q: got machine %#x", bad, m)
		}
	}
}

func TestRulesSayWhatTheyMean(t *testing.T) {
	for _, r := range Rules() {
		if _, err := path.Match(r.Pattern, "x"); err != nil || r.Why == "" {
			t.Errorf("%+v: %v", r, err)
		}
	}
	for name, want := range map[string]bool{"var/log/a/b": true, "var/log": false, "var/logs/x": false, "etc/passwd-": true, "etc/x/y-": false,
		"usr/a/__pycache__/b": true, "usr/my__pycache__/b": false} {
		got := slices.ContainsFunc(Rules(), func(r Rule) bool { return r.covers(name) })
		if got != want {
			t.Errorf("%s: got %t, want %t", name, got, want)
		}
	}
}

func TestEveryCompressionOfDebianIsUnpacked(t *testing.T) {
	want := initrd("init", "content")
	for _, c := range compressions {
		if c.program == nil {
			continue
		}
		if _, err := exec.LookPath(c.program[0]); err != nil {
			if os.Getenv("CI") != "" {
				t.Error(err)
			}
			t.Logf("%s IS NOT TESTED: %v", c.name, err)
			continue
		}
		cmd := exec.Command(c.program[0], "-c")
		cmd.Stdin = strings.NewReader(want)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unpackInitrd(t.Context(), packed); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
	}
}
