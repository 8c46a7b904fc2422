package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// stageApps fetches the images of the apps that change, by the way of an image of the OS.
func (a *Agent) stageApps(ctx context.Context, m machine, t *AppTransaction) error {
	to, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	running, err := a.running(m)
	if err != nil {
		return err
	}
	for _, name := range t.Apps {
		w, has := to.App(name)
		if !has {
			continue
		}
		n, err := a.fetchApp(ctx, w, running, t.Seq)
		t.Bytes += n
		if err != nil {
			return err
		}
	}
	return nil
}

// running is the deployment of the slot that runs, or nil.
func (a *Agent) running(m machine) (*Deployment, error) {
	p, err := a.st.pointer(m.boot.Slot)
	if err != nil {
		return nil, err
	}
	return a.st.deployment(p.Current)
}

// fetchApp brings an app's image to the data partition, reads it back and seals it. It
// returns how many bytes it took. Interrupted at any point, it goes on from its last
// checkpoint.
func (a *Agent) fetchApp(ctx context.Context, w DeployedApp, running *Deployment, seq uint64) (int64, error) {
	if a.sealed(w) {
		return 0, nil
	}
	mf, err := a.appManifest(w.App)
	if err != nil {
		return 0, err
	}
	s, err := a.appState()
	if err != nil {
		return 0, err
	}
	p, err := a.planApp(ctx, mf, running)
	if err != nil {
		return 0, fmt.Errorf("app %s %s: %w", w.Name, w.Version, err)
	}
	var cp checkpoint
	if err := s.load(fileCheckpoint, &cp); err != nil || cp.Txn != seq || cp.Root != w.Image.Root {
		cp = checkpoint{Txn: seq, Root: w.Image.Root}
	}
	// What moves an image knows slots only for its messages; it counts bytes in t.
	t := Transaction{Seq: seq}
	if !cp.wrote(p.image.Name) {
		if err := a.weigh(ctx, &p, &t); err != nil {
			return t.Bytes, err
		}
		if err := a.stageImage(ctx, &t, p, &cp); err != nil {
			return t.Bytes, fmt.Errorf("app %s %s: %w", w.Name, w.Version, err)
		}
	}
	if err := a.readBack(ctx, &t, p); err != nil {
		return t.Bytes, fmt.Errorf("app %s %s: %w", w.Name, w.Version, err)
	}
	if err := a.o.Apps.Images.Seal(w.Image.Root); err != nil {
		return t.Bytes, fmt.Errorf("app %s %s: %w", w.Name, w.Version, err)
	}
	return t.Bytes, s.remove(fileCheckpoint)
}

// planApp finds the cheapest route for the image of an app, whose base is the image of
// the same app that runs.
func (a *Agent) planApp(ctx context.Context, mf *release.AppManifest, running *Deployment) (imagePlan, error) {
	img := mf.Image
	if err := verity.CheckSize(img.Size); err != nil {
		return imagePlan{}, &Refusal{Reason{CodeIncompatible, err.Error()}, err}
	}
	store := a.o.Apps.Images
	at := place{
		write: func() (partitions.OpenDevice, error) {
			dev, err := store.OpenWrite(img.Root, img.Size+verity.TreeSize(img.Size))
			if errors.Is(err, workloads.ErrNoRoom) {
				return nil, &Refusal{Reason{CodeNoRoom, err.Error()}, err}
			}
			return dev, err
		},
		save: func(cp *checkpoint) error { return a.saveApps(fileCheckpoint, cp) },
		none: "no version of the app runs",
	}
	old, has := running.App(mf.Name)
	if has && a.sealed(old) {
		at.base, at.none = old.Image, ""
		at.read = func() (partitions.OpenDevice, error) { return store.OpenRead(old.Image.Root) }
	}
	return route(mf.Deltas, img, at, old.Version.String()), ctx.Err()
}

// verifyApp reads an app's image past the page cache and compares it with what was signed.
// One that is not it any more is dropped, to be fetched again. One that this process has
// read before, and whose file has not changed since, is not read again; what identifies
// that file goes to whoever mounts it.
func (a *Agent) verifyApp(ctx context.Context, w DeployedApp) (workloads.Identity, error) {
	file := a.o.Apps.Images.Identity(w.Image.Root)
	if file != (workloads.Identity{}) && a.appVerified[w.Image.Root] == file {
		return file, nil
	}
	if err := a.readApp(ctx, w); err != nil {
		return workloads.Identity{}, err
	}
	if a.o.Apps.Images.Identity(w.Image.Root) != file {
		return workloads.Identity{}, nil // it was written to meanwhile: whoever mounts it looks
	}
	if a.appVerified == nil {
		a.appVerified = map[release.Digest]workloads.Identity{}
	}
	a.appVerified[w.Image.Root] = file
	return file, nil
}

// readApp is nil if all of an app's image is what was signed.
func (a *Agent) readApp(ctx context.Context, w DeployedApp) error {
	dev, err := a.o.Apps.Images.OpenRead(w.Image.Root)
	if err != nil {
		return &Refusal{Reason{CodeSlot, fmt.Sprintf("image of app %s: %v", w.Name, err)}, err}
	}
	defer dev.Close()
	if need := w.Image.Size + verity.TreeSize(w.Image.Size); dev.Size() < need {
		err = fmt.Errorf("got %d bytes, want %d", dev.Size(), need)
	} else {
		var s scan
		if s, err = a.scanImage(ctx, dev, w.Image, "verify"); err != nil {
			return err
		}
		if s.root == w.Image.Root {
			return nil
		}
		if s.err != nil {
			// What cannot be read now may be the only copy, and may be read again.
			return &Refusal{Reason{CodeSlot, fmt.Sprintf("image of app %s: %v", w.Name, s.err)}, s.err}
		}
		err = fmt.Errorf("verity root: got %s, want %s", s.root.Short(), w.Image.Root.Short())
	}
	if rerr := a.o.Apps.Images.Remove(w.Image.Root); rerr != nil {
		return rerr
	}
	return &Refusal{Reason{CodeSlot, fmt.Sprintf("image of app %s: %v", w.Name, err)}, err}
}
