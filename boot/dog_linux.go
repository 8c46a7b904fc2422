package boot

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// dogSeconds is how long the watchdog waits for the next stroke: many beats of the guard,
// so that a machine under load is not taken for one that hangs.
const dogSeconds = 60

// dog is a watchdog device. Source: linux/Documentation/watchdog/watchdog-api.rst.
type dog struct{ f *os.File }

func openDog(path string) (*dog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, dogSeconds); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
		// Whatever its own timeout is, it is stroked each second.
		return nil, errors.Join(err, f.Close())
	}
	return &dog{f}, nil
}

// Stroke tells it that all is well.
func (d *dog) Stroke() error {
	_, err := d.f.Write([]byte{0})
	return err
}

// Release stops it, if it lets itself be stopped.
func (d *dog) Release() error {
	_, err := d.f.WriteString("V")
	return errors.Join(err, d.f.Close())
}
