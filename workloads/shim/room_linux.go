package shim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twinkeel/twinkeel/workloads/quota"
)

// Room for data is looked at so often, and measured by walking through it no less often
// than calmRoom, and at once when so much of the disk has gone that it may be too much.
const (
	roomPause = time.Second
	calmRoom  = 5 * time.Minute
	// reserve is what stays free on a disk, in bytes, for the host and everybody else.
	reserve = 16 << 20
)

// room watches what an application's volumes take.
type room struct {
	volumes []watched
}

// watched is one volume.
type watched struct {
	name, dir string
	quota     int64
	enforced  bool // by the file system
	used      int64
	free      int64 // when used was measured
	at        time.Time
}

// limit has the file system limit the volumes, or notes those that it does not.
func (s *supervisor) limit(ctx context.Context) error {
	s.room = &room{}
	for _, v := range s.order.Unit.Manifest.Data {
		w := watched{name: v.Name, dir: s.order.Unit.Data[v.Name], quota: v.Quota}
		err := quota.Limit(w.dir, v.Quota)
		w.enforced = err == nil || s.order.Machine != nil // whose disk has that size
		if err != nil && !errors.Is(err, quota.ErrNone) {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
		// Before it starts: what it writes at once has grown, too.
		_ = w.look(ctx, time.Now())
		s.room.volumes = append(s.room.volumes, w)
	}
	return nil
}

// says is how the quotas hold, for State.Quota.
func (r *room) says() string {
	how := ""
	for _, v := range r.volumes {
		if !v.enforced {
			return "watched"
		}
		how = "enforced"
	}
	return how
}

// watch looks until ctx ends, and reports once why the application has to stop.
func (r *room) watch(ctx context.Context, stop chan<- string) {
	for len(r.volumes) > 0 {
		for i := range r.volumes {
			if why := r.volumes[i].look(ctx, time.Now()); why != "" {
				select {
				case stop <- why:
				case <-ctx.Done():
				}
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(roomPause):
		}
	}
}

// look says why the application has to stop; empty: it has not.
func (w *watched) look(ctx context.Context, now time.Time) string {
	free, err := quota.Free(w.dir)
	if err != nil {
		return "" // whoever uses it will say so
	}
	left := w.quota - w.used
	switch {
	case w.at.IsZero(), free < reserve, !w.enforced && (w.free-free >= left/2 || now.Sub(w.at) >= calmRoom):
	default:
		return ""
	}
	used, err := quota.Measure(ctx, w.dir)
	if err != nil {
		return ""
	}
	grown, first := used-w.used, w.at.IsZero()
	w.used, w.free, w.at = used, free, now
	switch {
	case !w.enforced && used > w.quota:
		return fmt.Sprintf("volume %s takes %d bytes, its quota is %d", w.name, used, w.quota)
	case free < reserve && !first && grown > 0:
		return fmt.Sprintf("the disk has %d bytes left, of which %d stay free, and volume %s grew by %d", free, reserve, w.name, grown)
	}
	return ""
}
