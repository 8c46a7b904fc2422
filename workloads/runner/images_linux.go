package runner

import (
	"os"
	"time"

	"github.com/twinkeel/twinkeel/workloads/mount"
	"github.com/twinkeel/twinkeel/workloads/shim"
)

// keepImage is how long the image of a unit that was stopped is kept for its next start. Its
// room on the disk is free only afterwards.
const keepImage = time.Minute

// kept is an image of which mounts can be had without reading it anew.
type kept struct {
	shared *mount.Shared
	end    *time.Timer // since its unit was stopped
}

// image is a mount of an order's image that shares what is in memory with earlier ones of
// it; nil: there is none, and whoever mounts the image says why if it cannot. The caller
// holds mu.
func (r *Runner) image(o *shim.Order) *os.File {
	if o.Unit.Manifest.Isolation.Level == "vm" {
		return nil
	}
	name := o.Unit.Name()
	k := r.images[name]
	if k != nil && !k.shared.Of(o.Unit.Image) {
		r.dropImage(name, k)
		k = nil
	}
	if k == nil {
		shared, err := mount.Share(o.Unit.Image, o.Unit.Manifest.Image, o.Unit.Verified)
		if err != nil {
			return nil
		}
		k = &kept{shared: shared}
		if r.images == nil {
			r.images = map[string]*kept{}
		}
		r.images[name] = k
	}
	if k.end != nil {
		k.end.Stop()
	}
	f, err := k.shared.Mount()
	if err != nil { // an older kernel
		r.dropImage(name, k)
		return nil
	}
	return f
}

// leaveImage lets go of a unit's image, after a while.
func (r *Runner) leaveImage(name string) {
	k := r.images[name]
	if k == nil {
		return
	}
	k.end = time.AfterFunc(keepImage, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.dropImage(name, k)
	})
}

func (r *Runner) dropImage(name string, k *kept) {
	if r.images[name] != k {
		return
	}
	delete(r.images, name)
	if k.end != nil {
		k.end.Stop()
	}
	_ = k.shared.Close()
}
