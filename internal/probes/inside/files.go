//go:build linux && amd64

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func files() map[string]attempt {
	proc := func(name string) attempt { return readable("/proc/" + name) }
	return map[string]attempt{
		"proc-kcore": proc("kcore"), "proc-kmsg": kernelLog, "proc-kallsyms": proc("kallsyms"),
		"proc-config": proc("config.gz"), "proc-keys": proc("keys"), "proc-key-users": proc("key-users"),
		"proc-timer-list": proc("timer_list"), "proc-sched-debug": readable("/proc/sched_debug", "/sys/kernel/debug/sched/debug"),
		"proc-latency-stats": proc("latency_stats"), "proc-interrupts": proc("interrupts"), "proc-slabinfo": proc("slabinfo"),
		"proc-vmallocinfo": proc("vmallocinfo"), "proc-pagetypeinfo": proc("pagetypeinfo"),
		"proc-kpageflags": readable("/proc/kpageflags", "/proc/kpagecount", "/proc/kpagecgroup"),
		"proc-iomem":      readable("/proc/iomem", "/proc/ioports"), "proc-modules": proc("modules"), "proc-scsi": proc("scsi"),
		"proc-acpi": proc("acpi"), "proc-bus": readable("/proc/bus/pci", "/proc/bus/input"),
		"proc-irq-write": writable("/proc/irq/default_smp_affinity"), "proc-sysrq": writable("/proc/sysrq-trigger"),
		"sysctl-core-pattern": writable("/proc/sys/kernel/core_pattern"), "sysctl-modprobe": writable("/proc/sys/kernel/modprobe"),
		"sysctl-hotplug":    writable("/proc/sys/kernel/hotplug", "/sys/kernel/uevent_helper"),
		"sysctl-binfmt":     writable("/proc/sys/fs/binfmt_misc/register"),
		"sysctl-overcommit": writable("/proc/sys/vm/overcommit_memory"), "sysctl-panic": writable("/proc/sys/kernel/panic"),
		"sysctl-net": writable("/proc/sys/net/ipv4/ip_forward"), "oom-score": writable("/proc/self/oom_score_adj"),
		"oom-score-lower": lowerScore, "proc-of-others": others,
		"sys-kernel":      writable("/sys/kernel/mm/ksm/run", "/sys/kernel/profiling", "/sys/kernel/mm/transparent_hugepage/enabled"),
		"sys-debug":       readable("/sys/kernel/debug", "/sys/kernel/tracing"),
		"sys-firmware":    readable("/sys/firmware/acpi/tables/DSDT", "/sys/firmware/dmi/tables/DMI", "/sys/firmware/efi/efivars"),
		"sys-powercap":    readable("/sys/devices/virtual/powercap/intel-rapl", "/sys/class/powercap/intel-rapl"),
		"sys-power-write": writable("/sys/power/state", "/sys/power/disk"),
		"sys-release-agent": writable("/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/memory/release_agent",
			"/sys/fs/cgroup/pids/release_agent", "/sys/fs/cgroup/systemd/release_agent"),
		"cgroup-mkdir": makeGroup,
		"cgroup-mount": func() error { return unix.Mount("none", "/tmp", "cgroup2", 0, "") },

		"dev-mem": opened(unix.O_RDONLY, "/dev/mem", "/dev/port"), "dev-kmsg": opened(unix.O_RDONLY, "/dev/kmsg"),
		"dev-disk": opened(unix.O_RDONLY, "/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/xvda"),
		"dev-loop": opened(unix.O_RDWR, "/dev/loop-control", "/dev/loop0"), "dev-fuse": opened(unix.O_RDWR, "/dev/fuse"),
		"dev-tun": opened(unix.O_RDWR, "/dev/net/tun"), "dev-kvm": opened(unix.O_RDWR, "/dev/kvm"),
		"dev-mapper": opened(unix.O_RDWR, "/dev/mapper/control"),
	}
}

// kernelLog wants to wait for the kernel's next line: a file in its place has an end.
func kernelLog() error {
	fd, err := unix.Open("/proc/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return fmt.Errorf("%w: %w", errClosed, err)
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if n, err := unix.Read(fd, make([]byte, 1)); n == 0 && err == nil {
		return fmt.Errorf("%w: empty", errClosed)
	}
	return nil
}

// lowerScore asks to be killed later than was decided.
func lowerScore() error {
	const path = "/proc/self/oom_score_adj"
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	now, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(now-1)), 0); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0)
}

// others looks for processes that this one did not start.
func others() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		return nil
	}
	return fmt.Errorf("%w: alone", errClosed)
}

func makeGroup() error {
	return each([]string{"/sys/fs/cgroup/twinkeel-probe", "/sys/fs/cgroup/memory/twinkeel-probe", "/sys/fs/cgroup/pids/twinkeel-probe", "/sys/fs/cgroup/unified/twinkeel-probe"},
		func(dir string) error {
			err := unix.Mkdir(dir, 0o700)
			if err == unix.EROFS {
				return fmt.Errorf("%w: %w", errClosed, err)
			}
			_ = unix.Rmdir(dir)
			return err
		})()
}
