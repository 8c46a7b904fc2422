package boot

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// Order is what the kernel's command line asks the first stage to start. Source of the
// format: docs/format-boot.md, "Command line".
type Order struct {
	Slot       partitions.Slot
	Version    string         // for messages only
	Root       release.Digest // verity root of the slot's root image
	Salt       release.Salt
	HashOffset int64 // bytes of the image, behind which its hash tree lies
	Trial      bool

	RootPart string        // partition of the slot's root
	Data     string        // data partition, or "none"
	Record   string        // file system of the boot record, or "none"
	Deadman  time.Duration // after which a trial that is not committed is left
	Settle   time.Duration // after which a boot counts as come through
	Watchdog string        // device, or "none"
	Init     string        // program of the root that becomes PID 1
}

// None, as a partition or device, says that there is none.
const None = "none"

// The limits of an order.
const (
	maxCmdline = 64 << 10
	maxDeadman = 24 * time.Hour
)

// The defaults of an order. The deadline has to outlast the agent's own: health.deadline
// and health.soak, as configured, and a boot.
const (
	defaultDeadman = 20 * time.Minute
	defaultSettle  = 2 * time.Minute
)

// ParseOrder reads an order from a kernel command line. A word that is there twice with
// two values, and every value that makes no sense, is an error: whoever wrote the line
// meant something else than what would be done. With an error, the order holds what could
// be read, which serves to leave the slot.
func ParseOrder(line string) (Order, error) {
	o := Order{Data: "PARTLABEL=data", Record: None, Deadman: defaultDeadman, Settle: defaultSettle, Watchdog: "/dev/watchdog0", Init: "/sbin/init"}
	if len(line) > maxCmdline {
		return o, fmt.Errorf("kernel command line: got %d bytes, want at most %d", len(line), maxCmdline)
	}
	var errs []error
	seen := map[string]string{}
	for _, word := range strings.Fields(line) {
		name, value, _ := strings.Cut(word, "=")
		if !strings.HasPrefix(name, "twinkeel.") && name != "init" {
			continue
		}
		if was, ok := seen[name]; ok && was != value {
			errs = append(errs, fmt.Errorf("kernel command line: %.40s is there twice, with two values", name))
			continue
		}
		seen[name] = value
		if err := o.set(name, value); err != nil {
			errs = append(errs, fmt.Errorf("kernel command line: %.40s: %w", name, err))
		}
	}
	for _, name := range []string{"twinkeel.slot", "twinkeel.roothash", "twinkeel.hashoffset"} {
		if _, ok := seen[name]; !ok {
			errs = append(errs, fmt.Errorf("kernel command line: %s is not there", name))
		}
	}
	if o.RootPart == "" {
		o.RootPart = "PARTLABEL=root-" + slotMark
	}
	o.RootPart = strings.ReplaceAll(o.RootPart, slotMark, o.Slot.String())
	return o, errors.Join(append(errs, partitions.CheckSpec(o.RootPart))...)
}

// slotMark stands for the slot's letter in twinkeel.root.
const slotMark = "{slot}"

// set takes one word of the command line. Words of others are ignored.
func (o *Order) set(name, value string) (err error) {
	switch name {
	case "twinkeel.slot":
		o.Slot, err = partitions.ParseSlot(value)
	case "twinkeel.version":
		o.Version = value
	case "twinkeel.roothash":
		err = o.Root.UnmarshalText([]byte(value))
	case "twinkeel.salt":
		err = o.Salt.UnmarshalText([]byte(value))
	case "twinkeel.hashoffset":
		o.HashOffset, err = strconv.ParseInt(value, 10, 64)
		if err == nil {
			err = verity.CheckSize(o.HashOffset)
		}
	case "twinkeel.trial":
		o.Trial = value == "1"
	case "twinkeel.root":
		o.RootPart = value
	case "twinkeel.data":
		o.Data, err = value, checkPart(value)
	case "twinkeel.record":
		o.Record, err = value, checkPart(value)
	case "twinkeel.deadman":
		o.Deadman, err = seconds(value)
	case "twinkeel.settle":
		o.Settle, err = seconds(value)
	case "twinkeel.watchdog":
		o.Watchdog = value
		if value != None {
			err = checkPath(value)
		}
	case "init":
		o.Init, err = value, checkPath(value)
	}
	return err
}

func checkPart(spec string) error {
	if spec == None {
		return nil
	}
	return partitions.CheckSpec(spec)
}

func checkPath(p string) error {
	if !path.IsAbs(p) || path.Clean(p) != p {
		return fmt.Errorf("got %.80q, want an absolute path", p)
	}
	return nil
}

// seconds parses a number of seconds.
func seconds(s string) (time.Duration, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 || time.Duration(n)*time.Second > maxDeadman {
		return 0, fmt.Errorf("got %.20q, want 1 to %d seconds", s, int(maxDeadman.Seconds()))
	}
	return time.Duration(n) * time.Second, nil
}

// sectorSize is the unit of device-mapper, whatever the disk's is.
const sectorSize = 512

// table returns the parameters of dm-verity for a root that lies, with its tree, on the
// device with this number. Format 1, as internal/verity makes it; without a word on
// errors, which are then EIO and nothing else: the Guard decides what follows.
// Source: linux/Documentation/admin-guide/device-mapper/verity.rst.
func (o Order) table(device string) (params string, sectors uint64, err error) {
	if o.HashOffset <= 0 {
		return "", 0, errors.New("dm-verity: an image of no size")
	}
	blocks, salt := o.HashOffset/verity.BlockSize, "-"
	if len(o.Salt) > 0 {
		salt = hex.EncodeToString(o.Salt)
	}
	params = fmt.Sprintf("1 %s %s %d %d %d %d sha256 %s %s", device, device, verity.BlockSize, verity.BlockSize, blocks, blocks, o.Root, salt)
	return params, uint64(o.HashOffset) / sectorSize, nil
}
