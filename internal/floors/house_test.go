package floors

// wing is a side of the house. The host's and the publisher's never import each other.
type wing string

const (
	shared    wing = "shared"    // may be imported from everywhere above
	host      wing = "host"      // runs on the machine that is updated
	publisher wing = "publisher" // runs where releases are made and served
	support   wing = "support"   // imported by tests only; sees both wings
)

// room is where a package stands. A package imports only packages with a smaller
// height, of its own wing or shared.
type room struct {
	path   string // relative to the module; a final /* stands for any one element
	height int
	wing   wing
	why    string
}

var house = []room{
	{"release", 0, shared, "the nouns of both sides; types only"},
	{"internal/durable", 0, shared, "knows files, not what they mean"},
	{"internal/verity", 1, shared, "one definition of an image's identity, for those who make it and those who check it"},
	{"deltas/predict", 1, shared, "what both sides guess alike; knows bytes and offsets only"},
	{"deltas/coder", 1, shared, "entropy coding, of bytes that mean nothing to it"},
	{"deltas", 2, shared, "the format that publisher and host agree on"},
	{"deltas/decode", 3, shared, "the fetcher decodes; the publisher decodes to verify what it made"},
	{"deltas/bsdiff40", 3, shared, "interchange with other tools, in nobody's way"},
	{"internal/filetree", 0, shared, "what reading the files of an image has in common"},
	{"internal/erofs", 1, shared, "how a file system lies on a disk, and nothing else"},
	{"internal/cpio", 0, shared, "archives that a kernel starts from, whoever makes one"},
	{"internal/ext4", 1, publisher, "the same, of another one"},
	{"internal/erofs/mkfs", 0, publisher, "how one is written; a host writes none"},
	{"deltas/diff/suffix", 3, publisher, "sorting; knows bytes only"},
	{"deltas/blocks", 3, shared, "what a host compares its blocks with"},
	{"deltas/diff", 4, publisher, "a host never makes a delta"},
	{"deltas/blocks/build", 5, publisher, "a host never makes a block map"},
	{"signing/translog", 1, shared, "one log for those who write it, those who check it and those who audit it"},
	{"signing", 2, shared, "what a host trusts; the publisher reads its own metadata the same way"},
	{"signing/publisher", 3, publisher, "keys and signers"},
	{"server", 6, publisher, "the repository and publishing"},
	{"server/appbuild", 4, publisher, "applications from container images; knows no repository"},
	{"server/serve", 6, publisher, "the repository on the network; needs no key and no publisher"},
	{"partitions", 2, shared, "slots and devices; a disk is laid out as a host will read it"},
	{"partitions/bootloader", 3, shared, "the boot record's rules, which no backend repeats"},
	{"partitions/bootloader/running", 4, shared, "what the kernel says of its start"},
	{"partitions/bootloader/record", 4, shared, "a record in plain storage, for loaders that do not read it all"},
	{"partitions/bootloader/grub", 5, shared, "whoever makes a disk writes the record that GRUB and the host read"},
	{"partitions/bootloader/sdboot", 5, shared, "the same for systemd-boot"},
	{"images", 6, publisher, "a release's images from a root file system; knows no release"},
	{"disks", 6, publisher, "the disk that a host starts from; knows boot records, and no site"},
	{"partitions/bootloader/*", 5, host, "one directory for each way of booting"},
	{"workloads", 1, host, "the nouns between who decides what applications run and who runs them"},
	{"workloads/data", 3, host, "directories of applications; knows no transaction"},
	{"workloads/store", 4, host, "images of applications; knows no transaction"},
	{"agent/policy", 4, host, "pure decisions on windows and rollout; knows no transaction"},
	{"agent/health", 4, host, "probes and the verdict over them; knows no transaction"},
	{"agent", 5, host, "the transaction, over seams only"},
	{"agent/confine", 4, host, "what a process gives up for good; knows no transaction"},
	{"agent/*", 6, host, "the real world behind one of the agent's seams, or a door to it"},
	{"agent/fetcher/internal/wire", 5, host, "the messages between both sides of the fetcher"},
	{"agent/fetcher/child", 6, host, "the unprivileged process, the only one with a network"},
	{"agent/writer", 8, host, "puts the real agent together"},
	{"workloads/spec", 2, host, "a function from a manifest to what a runtime is told"},
	{"boot/report", 3, host, "what was seen of a boot, between who saw it and who tells people"},
	{"boot/devmapper", 4, host, "the kernel's calls, told what to map"},
	{"boot", 7, host, "from the loader to the operating system; a slot is a root hash to it"},
	{"cmd/twinkeel-init", 9, host, "the first stage"},
	{"cmd/twinkeel-shim", 9, host, "the process around one application"},
	{"workloads/mount", 3, host, "images and data, where a container finds them; knows no container"},
	{"workloads/oci", 1, host, "commands of container runtimes; knows no application"},
	{"workloads/network", 1, host, "bridges, links and the packet filter; knows no application"},
	{"workloads/quota", 1, host, "sizes of directories; knows no application"},
	{"workloads/vm", 3, host, "machines, and what host and guest say to each other; knows no application"},
	{"workloads/pace", 0, host, "starts programs with timers that are as exact as they need"},
	{"workloads/stray", 0, host, "ends what a command has left behind, on a host and in a guest"},
	{"workloads/vm/guest", 4, host, "the init of a machine"},
	{"workloads/shim", 4, host, "the process around one application"},
	{"workloads/runner", 5, host, "runs units by shims"},
	{"cmd/twinkeeld", 9, host, "the daemon"},
	{"cmd/twinkeel", 9, host, "the operator's command"},
	{"cmd/twinkeel-server", 9, publisher, "the publisher's command"},
	{"partitions/bootloader/bootloadertest", 6, support, "the suite that every backend passes"},
	{"partitions/bootloader/backends", 6, host, "the one place that knows every way of booting"},
	{"signing/signingtest", 4, support, "a small repository with keys, for tests"},
	{"internal/sim", 10, support, "the fakes behind all seams, and the repository they serve"},
	{"internal/tufadapter", 10, support, "the trust client as a command, for judges from outside"},
	{"internal/sim/histories", 11, support, "random histories, and every single fault, on machines of internal/sim"},
	{"internal/sim/mutants", 11, support, "planted bugs, which the histories have to find"},
	{"internal/crashrig", 11, support, "crash states of real file systems"},
	{"internal/needs", 0, support, "what a test needs and a machine may lack"},
	{"internal/probes", 0, support, "what an application must not get; tests only"},
	{"internal/probes/inside", 10, support, "tries it, from inside"},
	{"internal/probes/quotas", 9, support, "the init of a machine in which a file system limits directories"},
	{"internal/probes/actor", 10, support, "an application that serves, or misbehaves"},
	{"internal/proof", 12, support, "writes docs/PROOF.md"},
	{"internal/vm", 10, support, "real boots in a virtual machine"},
	{"internal/vm/guest", 10, support, "what runs in such a machine"},
	{"internal/machine", 10, support, "a computer around the real binaries, on loop devices"},
	{"internal/readstate", 10, support, "has the agent's own commands read what a machine that is off left"},
	{"internal/bench", 10, support, "measures the engine beside other tools; a command, and only make calls it"},
	{"internal/story", 11, support, "what the examples tell, with the real commands"},
	{"internal/e2e", 12, support, "updates virtual machines with the real binaries; a command, and only make calls it"},
	{"internal/e2e/guest", 10, support, "the system in the slots of such a machine"},
	{"examples/*", 12, support, "shows the real commands at work"},
	{"examples/apps/notes", 10, support, "an application that an example installs"},
	{"internal/floors", 10, support, "this test"},
}

// home says which packages may import an outside dependency.
type home struct {
	module string   // import path prefix
	rooms  []string // packages; a final /... takes in what lies below
	tests  []string // packages whose tests may, too
	why    string
}

var everywhere = []string{"..."}

var homes = []home{
	{"github.com/google/renameio/v2", []string{"internal/durable"}, nil, "durable adds the directory sync that renameio leaves out; a second user would forget it"},
	{"github.com/theupdateframework/go-tuf/v2/metadata/updater", nil, []string{"signing/...", "server", "internal/sim"}, "its client has known defects; it serves as a second opinion in tests"},
	{"github.com/theupdateframework/go-tuf/v2/metadata/fetcher", nil, []string{"signing/...", "server"}, "comes with the updater"},
	{"github.com/theupdateframework/go-tuf/v2/metadata/config", nil, []string{"signing/...", "server"}, "comes with the updater"},
	{"github.com/theupdateframework/go-tuf/v2/metadata/multirepo", nil, nil, "not used"},
	{"github.com/theupdateframework/go-tuf/v2", []string{"signing/..."}, nil, "trust has one place"},
	{"github.com/sigstore/sigstore", []string{"signing/..."}, nil, "keys and signatures have one place"},
	{"golang.org/x/mod", []string{"signing/translog"}, nil, "Merkle trees and signed notes, behind the release log"},
	{"github.com/gabstv/go-bsdiff", []string{"deltas/bsdiff40"}, nil, "it needs our checks and limits around it"},
	{"github.com/klauspost/compress", []string{"deltas/decode", "deltas/diff", "deltas/blocks/build"}, nil, "only the unprivileged process and the publisher decompress"},
	{"github.com/pelletier/go-toml/v2", []string{"agent/config", "server/appbuild"}, nil, "the host's configuration and an application's description are each read in one place"},
	{"github.com/google/go-containerregistry", []string{"server/appbuild"}, []string{"cmd/twinkeel-server", "examples/apps"}, "container images are the input of one package, and no host's business"},
	{"github.com/coreos/go-systemd/v22", []string{"agent/control", "cmd/twinkeeld"}, nil, "only a service talks to its manager"},
	{"github.com/prometheus/client_golang", []string{"server/serve"}, nil, "a host has no metrics endpoint"},
	{"github.com/spf13/cobra", []string{"cmd/..."}, nil, "libraries know nothing of command lines"},
	{"github.com/spf13/pflag", []string{"cmd/..."}, nil, "comes with cobra"},
	{"golang.org/x/term", []string{"cmd/..."}, nil, "only a command sits at a terminal"},
	{"golang.org/x/sys/unix", []string{"partitions/...", "internal/durable", "internal/crashrig", "internal/needs", "images", "agent/fetcher/...", "agent/writer", "agent/control", "agent/confine", "agent/health", "internal/machine", "internal/vm/guest", "internal/e2e/guest", "boot/...", "internal/probes/...", "workloads/data", "workloads/store", "workloads/mount", "workloads/oci", "workloads/network", "workloads/shim", "workloads/runner", "workloads/vm/...", "workloads/quota", "workloads/stray", "workloads/pace", "examples/...", "cmd/..."}, nil, "system calls stay in the real implementations of seams"},
	{"github.com/opencontainers/runtime-spec", []string{"workloads/spec"}, nil, "the format is written in one place"},
	{"github.com/vishvananda/netlink", []string{"workloads/network"}, nil, "links have one place"},
	{"github.com/google/nftables", []string{"workloads/network"}, nil, "the packet filter has one place"},
	{"github.com/moby/profiles", []string{"workloads/spec"}, nil, "the filter has one place"},
	{"github.com/rogpeppe/go-internal", nil, everywhere, "scripts that test commands"},
	{"pgregory.net/rapid", []string{"partitions/bootloader/bootloadertest"}, everywhere, "properties over random histories"},
}

// closure says what a binary or a process must not hold, however far down.
type closure struct {
	name   string
	roots  []string // packages of ours
	never  []string // import path prefixes; ours begin with ./
	direct []string // import path prefixes that no package of ours in the closure imports itself
	why    string
}

var closures = []closure{
	{
		name:  "the writer process",
		roots: []string{"agent", "agent/writer", "agent/control", "agent/config", "agent/health", "agent/policy", "agent/fetcher"},
		never: []string{"net/http", "crypto/tls", "database/sql", "github.com/klauspost/", "github.com/gabstv/", "./deltas/diff", "./deltas/decode", "./deltas/blocks/build", "./deltas/bsdiff40", "./signing/publisher", "./server", "./agent/fetcher/child"},
		// go-tuf brings compress/gzip in through protobuf's registry of descriptors,
		// which decompresses nothing that came from outside: tolerated below our own
		// packages, never in them.
		direct: []string{"compress/", "archive/zip"},
		why:    "root has no network and no decoder, so that a hostile server meets neither with privileges",
	},
	{
		name:  "the binaries on a host",
		roots: []string{"cmd/twinkeel", "cmd/twinkeeld", "cmd/twinkeel-init"},
		never: []string{"database/sql", "github.com/gabstv/", "github.com/prometheus/", "./deltas/diff", "./deltas/blocks/build", "./deltas/bsdiff40", "./signing/publisher", "./server", "testing"},
		why:   "a host holds no diff encoder, no signer and no server, and stays small",
	},
	{
		name:  "the first stage",
		roots: []string{"boot"},
		never: []string{"net/http", "crypto/tls", "database/sql", "./agent", "./signing", "./deltas", "./server", "testing"},
		why:   "it starts what the loader chose, and is small: no network, no trust, no decoder",
	},
	{
		name:  "the shim",
		roots: []string{"cmd/twinkeel-shim"},
		never: []string{"net/http", "crypto/tls", "database/sql", "github.com/spf13/", "github.com/klauspost/", "./agent", "./signing", "./deltas", "./server", "testing"},
		why:   "a host has one for each application: it begins fast and stays small",
	},
	{
		name:  "the publisher's binary",
		roots: []string{"cmd/twinkeel-server", "server"},
		never: []string{"./agent", "./partitions/bootloader/backends", "./internal/sim", "testing"},
		why:   "the wings meet only in the shared packages",
	},
	{
		name:  "publishing",
		roots: []string{"server", "server/serve", "signing/publisher"},
		never: []string{"./partitions", "./disks"},
		why:   "who signs and serves releases needs no idea of how a host boots",
	},
}

// banned are doors to the world outside. Everything but the files in doors takes
// clock, disk, network and randomness as values.
type ban struct {
	path string
	// names that are refused; empty: all of the package but the names in but.
	names []string
	but   []string
	why   string
}

var bans = []ban{
	{path: "time", names: []string{"Now", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Since", "Until"}, why: "time belongs to the Clock"},
	{path: "os", but: []string{"File", "FileMode", "FileInfo", "Signal", "ErrNotExist", "ErrExist", "ErrPermission", "ErrDeadlineExceeded"}, why: "files belong to Dir and Device"},
	{path: "os/exec", why: "commands are run by the probes' runner and by the reboot function"},
	{path: "os/signal", why: "only a command gets signals"},
	{path: "syscall", why: "system calls stay in the real implementations of seams"},
	{path: "golang.org/x/sys/unix", why: "system calls stay in the real implementations of seams"},
	{path: "net", but: []string{"Conn", "Listener", "Addr", "Error", "ErrClosed"}, why: "the network belongs to Net"},
	{path: "net/http", why: "the network belongs to Net"},
	{path: "math/rand", why: "randomness is handed in"},
	{path: "math/rand/v2", names: []string{"Int", "IntN", "Int64", "Int64N", "Uint32", "Uint64", "Float64", "N", "Perm", "Shuffle"}, why: "randomness is handed in; a seeded source is a value"},
	{path: "crypto/rand", why: "randomness is handed in"},
	{path: "path/filepath", names: []string{"Walk", "WalkDir", "Glob", "EvalSymlinks", "Abs"}, why: "they touch the disk"},
	{path: "io/ioutil", why: "superseded"},
	{path: "log", why: "slog, handed in"},
	{path: "log/slog", names: []string{"Default", "SetDefault", "Debug", "Info", "Warn", "Error", "Log", "DebugContext", "InfoContext", "WarnContext", "ErrorContext"}, why: "a logger is handed in, never a global"},
	{path: "fmt", names: []string{"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"}, why: "only a command writes to the terminal, and it is handed the writer"},
}

// doors are the real implementations: path.Match patterns of files, or directories
// with a final slash.
var doors = []struct{ files, why string }{
	{"internal/durable/os_linux.go", "the real Dir"},
	{"partitions/*_linux.go", "the real devices"},
	{"partitions/set.go", "compares device files"},
	{"partitions/spec.go", "looks devices up"},
	{"partitions/bootloader/*/*.go", "boot loaders' files"},
	{"agent/fetcher/", "the protocol's sockets and the process behind them"},
	{"agent/writer/", "assembles the real agent"},
	{"agent/health/*.go", "runs probes"},
	{"agent/confine/", "asks the kernel to take rights away"},
	{"agent/control/", "the local socket"},
	{"agent/config/*.go", "reads the configuration file"},
	{"signing/publisher/", "key files and new keys"},
	{"server/", "the repository directory and HTTP"},
	{"disks/", "runs the tools that make file systems"},
	{"images/", "reads a root file system and runs the tools that unpack"},
	{"cmd/", "a command is where the world begins"},
	{"internal/vm/", "starts virtual machines"},
	{"internal/e2e/", "a command, and the system in its machines"},
	{"boot/", "mounts, devices and the console"},
	{"internal/sim/histories/fixture.go", "the publisher's keys lie in a directory for a moment"},
	{"internal/sim/mutants/", "reads the source and runs the compiler"},
	{"internal/crashrig/", "a block device whose writes are recorded, and file systems on it"},
	{"internal/needs/", "asks for tools, and mounts file systems"},
	{"internal/probes/inside/", "a command that asks the kernel for everything"},
	{"internal/probes/actor/", "a command that misbehaves"},
	{"workloads/data/", "the real directories of applications"},
	{"workloads/store/", "the real image files"},
	{"workloads/mount/", "the real mounts"},
	{"workloads/oci/", "the real runtimes"},
	{"workloads/network/", "the real links and packet filter"},
	{"workloads/quota/", "the real directories"},
	{"workloads/stray/", "the real processes"},
	{"workloads/pace/", "the real processes"},
	{"internal/probes/quotas/", "a command that fills a file system"},
	{"workloads/vm/", "the real machines, and the first process in one"},
	{"workloads/shim/", "the process around an application"},
	{"workloads/runner/", "starts the real shims"},
	{"internal/proof/", "runs everything and writes the page"},
	{"internal/tufadapter/", "a command, with the client's network and files"},
	{"internal/bench/", "a command that runs commands and measures them"},
	{"internal/machine/", "attaches disks and starts the real binaries"},
	{"internal/story/", "runs the commands and looks at their answers"},
	{"internal/readstate/", "runs the commands on what is left of a machine"},
	{"examples/", "an example is a command"},
}

// Limits on size, in lines.
const (
	maxFile     = 400
	maxTestFile = 800
	maxFunc     = 80
	maxTestFunc = 120
)
