package config

import (
	"time"

	"github.com/twinkeel/twinkeel/agent/health"
	"github.com/twinkeel/twinkeel/agent/policy"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// DefaultPath is where a host has its configuration.
const DefaultPath = "/etc/twinkeel/twinkeel.toml"

// Config is the configuration of one host. Source of the format: docs/OPERATIONS.md.
type Config struct {
	Server     string   // base URL of the repository, https or http, without a final slash
	Channel    string   // which releases are offered
	Compatible string   // which machines a release has to be made for
	State      string   // state directory, on the data partition
	Root       string   // file with the factory's trust root
	Labels     []string // of this host, for a fleet's operator
	Rollout    string   // policy.RolloutDirective or policy.RolloutAll
	Fleet      string   // whose directive counts; default: the channel's name
	HostID     string   // places the host in a rollout; default: derived from the machine id
	Proxy      string   // URL of a proxy, "none", or "" for the proxy variables of the environment
	CA         string   // PEM file with the authorities of the server's certificate, or "" for the system's
	Fetcher    string   // "spawn", or the socket of a running fetcher
	Socket     string   // of the daemon, for the operator's command

	Slots  map[partitions.Slot]map[string]string // image name → partition
	Boot   Boot
	Poll   Poll
	Update Update
	Health Health
	Apps   Apps
}

// Apps is [apps] with its [[app]] tables.
type Apps struct {
	Path    string // directory of images and data, on the data partition; default: /var/lib/twinkeel-apps
	Runtime string // command of the container runtime; "": crun or runc, whichever is there
	Sandbox string // command of gVisor's runsc; "": runsc, if it is there
	QEMU    string // command of the emulator for level vm; "": the one for this machine, if it is there
	Kernel  string // of the guests of level vm; "": the one that the host runs
	Modules string // directory of that kernel's modules; "": those of the host's kernel, or none of another
	// Instance tells the applications of this agent from those of another one on the same
	// machine: their control groups and their table of the packet filter.
	Instance string
	Bridge   string   // of private networks
	Network  string   // their addresses, as a prefix
	Allow    []string // permissions that every app gets, as name or name=value
	Deny     []string // permissions that no app gets
	Keep     int      // parked generations of an app's data
	// Isolation is the level (container, sandbox, vm) below which no app is run; one whose
	// manifest asks for less is refused. Default: container, and so none.
	Isolation string
	Wanted    []App
}

// App is one [[app]] table: an application that this host is to run.
type App struct {
	Name      string
	Publisher string
	Version   release.Version // this one and no other; zero: the newest
	Hold      bool
	Bundled   bool // only releases of the OS install it
	Allow     []string
	Deny      []string
}

// FetcherSpawn makes the agent start its own fetcher.
const FetcherSpawn = "spawn"

// Boot is [boot].
type Boot struct {
	Loader string   // "grub", "systemd-boot", "simulated", or "auto" to go by what is there
	Path   string   // partition, file or directory where it keeps its record; "" for its usual place
	Tries  uint8    // trial boots of a new release
	Reboot []string // command that asks for a reboot
}

// Poll is [poll].
type Poll struct {
	Interval time.Duration // mean time between two polls, unless the directive says another
}

// Update is [update].
type Update struct {
	Windows   policy.Windows // in local time; none: always
	Bandwidth int64          // bytes per second while downloading; 0: not limited
}

// Health is [health].
type Health struct {
	Deadline time.Duration // for required probes to become good in a trial
	Soak     time.Duration // for which they then stay good
	Probes   []health.Probe
}

// Default returns the configuration of a file that says nothing.
func Default() *Config {
	return &Config{
		State:   "/var/lib/twinkeel",
		Root:    "/etc/twinkeel/root.json",
		Rollout: policy.RolloutDirective,
		Fetcher: FetcherSpawn,
		Socket:  "/run/twinkeel/twinkeel.sock",
		Slots:   map[partitions.Slot]map[string]string{partitions.A: {}, partitions.B: {}},
		Boot:    Boot{Loader: "auto", Tries: 3, Reboot: []string{"systemctl", "reboot"}},
		Poll:    Poll{Interval: 30 * time.Minute},
		Apps:    Apps{Path: "/var/lib/twinkeel-apps", Instance: "twinkeel", Bridge: "twinkeel0", Network: "10.89.0.0/16", Keep: 4, Isolation: "container"},
		Health:  Health{Deadline: 10 * time.Minute, Soak: 2 * time.Minute},
	}
}

// HasSlots reports whether the system itself is updated. A host without slots runs
// applications only: what else is on it belongs to its own package manager.
func (c *Config) HasSlots() bool {
	return len(c.Slots[partitions.A])+len(c.Slots[partitions.B]) > 0
}

// Images returns the names of the images that a slot has partitions for, sorted.
func (c *Config) Images() []string { return sortedKeys(c.Slots[partitions.A]) }
