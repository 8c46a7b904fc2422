package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/machine"
	"github.com/twinkeel/twinkeel/internal/story"
)

func main() {
	bin := flag.String("bin", "bin", "directory of the commands")
	images := flag.String("images", ".cache/demo/current", "directory that images.sh made")
	work := flag.String("work", ".cache/demo/run", "directory to work in; it is emptied first")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ours, code, err := machine.Isolate(ctx)
	if ours {
		err = demo(ctx, *bin, *images, *work)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// versions of the releases that images.sh makes.
var versions = [4]string{"2026.11.1", "2026.11.2", "2026.11.3", "2026.11.4"}

func demo(ctx context.Context, bin, images, work string) (err error) {
	if work, err = filepath.Abs(work); err != nil {
		return fmt.Errorf("work directory: %w", err)
	}
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("work directory: %w", err)
	}
	data := filepath.Join(work, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return fmt.Errorf("work directory: %w", err)
	}
	s := story.Story{
		Title: "twinkeel: a real Debian over A/B slots", Out: os.Stdout, Bin: bin, Work: work,
		State: filepath.Join(data, "twinkeel"), Slots: make(map[string]string), Devices: make(map[string]string),
		Soak: 2 * time.Second, Deadline: 6 * time.Second,
	}
	for i, v := range versions {
		dir := filepath.Join(images, "v"+strconv.Itoa(i+1))
		s.Releases[i] = story.Release{Version: v, Images: map[string]string{
			"root": filepath.Join(dir, "root.img"), "boot": filepath.Join(dir, "boot.img")}}
	}
	disk, err := makeDisk(ctx, filepath.Join(work, "disk.img"), s.Releases)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	for _, p := range []string{"root-a", "boot-a", "root-b", "boot-b"} {
		s.Slots[p], s.Devices[p] = disk.Spec(p), disk.Device(p)
	}
	s.Record = disk.Spec("bootrecord")
	if err := mountData(ctx, disk.Device("data"), data); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Unmount(data, unix.MNT_DETACH)) }()
	log, err := os.Create(filepath.Join(work, "service.log"))
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	defer log.Close()
	address, err := story.FreeAddress()
	if err != nil {
		return err
	}
	running := filepath.Join(work, "running")
	s.System = &machine.Chroot{
		Dir: running, Roots: map[string]string{"a": disk.Device("root-a"), "b": disk.Device("root-b")}, Type: "erofs",
		Scratch: []string{"run", "tmp", "var/log", "var/lib/nginx"},
		Files:   map[string]string{"run/demo/listen.conf": "listen " + address + ";\n", "var/log/nginx/error.log": ""},
		Service: []string{"/usr/sbin/nginx", "-g", "daemon off;"}, Log: log,
	}
	s.Probes = []story.Probe{
		{Name: "web", HTTP: "http://" + address + "/healthz"},
		{Name: "configuration", Command: []string{"/usr/sbin/chroot", running, "/usr/sbin/nginx", "-t", "-q"}},
	}
	s.Loadable = func(slot string) bool { return hasKernel(disk.Device("boot-"+slot), filepath.Join(work, "firmware")) }
	if _, err := exec.LookPath("veritysetup"); err == nil {
		s.Verify = veritysetup
	}
	return s.Tell(ctx)
}

// makeDisk makes a disk with room for the largest of the releases and what may come.
func makeDisk(ctx context.Context, path string, releases [4]story.Release) (*machine.Disk, error) {
	size := make(map[string]int64)
	for _, r := range releases {
		for name, file := range r.Images {
			info, err := os.Stat(file)
			if err != nil {
				return nil, fmt.Errorf("image: %w", err)
			}
			grown := info.Size() + info.Size()/4 // the verity tree is less than 1 %
			size[name] = max(size[name], (grown/machine.Alignment+1)*machine.Alignment)
		}
	}
	return machine.CreateDisk(ctx, path, []machine.Partition{
		{Name: "bootrecord", Size: machine.Alignment},
		{Name: "root-a", Size: size["root"]}, {Name: "boot-a", Size: size["boot"]},
		{Name: "root-b", Size: size["root"]}, {Name: "boot-b", Size: size["boot"]},
		{Name: "data", Size: 64 << 20},
	})
}

func mountData(ctx context.Context, device, dir string) error {
	if out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-L", "data", device).CombinedOutput(); err != nil {
		return fmt.Errorf("format the data partition: %w\n%s", err, out)
	}
	if err := unix.Mount(device, dir, "ext4", unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
		return fmt.Errorf("mount the data partition: %w", err)
	}
	return nil
}

// hasKernel looks into a boot partition as a boot loader does.
func hasKernel(device, dir string) bool {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false
	}
	if err := unix.Mount(device, dir, "ext2", unix.MS_RDONLY, ""); err != nil {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, "vmlinuz"))
	return errors.Join(err, unix.Unmount(dir, 0)) == nil
}

// veritysetup has the verity tools of the distribution check an image in a slot: data,
// tree and root.
func veritysetup(ctx context.Context, i story.Image) error {
	cmd := exec.CommandContext(ctx, "veritysetup", "verify", "--no-superblock", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096",
		"--data-blocks="+strconv.FormatInt(i.Size/4096, 10), "--hash-offset="+strconv.FormatInt(i.Size, 10), "--salt="+i.Salt, i.Device, i.Device, i.Root)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("veritysetup: %w: %s", err, out)
	}
	return nil
}
