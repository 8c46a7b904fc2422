package agent

import (
	"fmt"
	"slices"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// The kinds of a Route.
const (
	routeCopy   = "copy"   // the running slot has the very image: no download
	routeDelta  = "delta"  // from the running slot's image
	routeBlocks = "blocks" // what the running slot's image lacks
	routeFull   = "full"   // the whole image
)

// imagePlan is how one image gets into the slot.
type imagePlan struct {
	image release.Image
	kind  string
	blob  release.Blob   // of delta, blocks or full
	bytes int64          // to download
	from  release.Digest // verity root of the base; zero: none
	base  int64          // size of the base, bytes
	all   []Route        // with what was not chosen
	fill  *filling       // of blocks
	place place          // where it goes, and where its base is
}

// place is where one image is written and where the image is that it replaces: a slot's
// partitions, or files of the data partition.
type place struct {
	write func() (partitions.OpenDevice, error)
	read  func() (partitions.OpenDevice, error) // the base
	save  func(*checkpoint) error
	base  DeployedImage // zero: none
	none  string        // why there is no base
}

// slotPlace is the place of an image that goes into a slot.
func (a *Agent) slotPlace(m machine, slot partitions.Slot, img release.Image, running *Deployment) place {
	p := place{
		write: func() (partitions.OpenDevice, error) { return a.o.Slots.OpenWrite(slot, img.Name) },
		read:  func() (partitions.OpenDevice, error) { return a.o.Slots.OpenRead(m.boot.Slot, img.Name) },
		save:  func(cp *checkpoint) error { return a.st.save(fileCheckpoint, cp) },
	}
	if running == nil {
		p.none = "it is not known what runs"
		return p
	}
	var ok bool
	if p.base, ok = running.Image(img.Name); !ok {
		p.none = "what runs has no such image"
	}
	return p
}

// preflight checks the host before the first byte is fetched or written.
func (a *Agent) preflight(m machine, slot partitions.Slot) error {
	if err := a.st.writable(); err != nil {
		return err
	}
	if r := m.record.Slots[slot.Other()]; !r.Successful || !r.Bootable() {
		return &Refusal{Reason{CodeLoader, fmt.Sprintf("slot %s is not a committed slot to fall back to", slot.Other())}, nil}
	}
	if a.unproven() {
		return &Refusal{Reason{CodeUnproven, fmt.Sprintf("slot %s was committed without a firmware boot: slot %s stays as it is until one succeeds", slot.Other(), slot)}, nil}
	}
	return nil
}

// plan finds the cheapest route for every image, and checks that the slot has room.
func (a *Agent) plan(m machine, slot partitions.Slot, mf *release.Manifest) ([]imagePlan, error) {
	p, err := a.st.pointer(m.boot.Slot)
	if err != nil {
		return nil, err
	}
	running, err := a.st.deployment(p.Current)
	if err != nil {
		return nil, err
	}
	plans := make([]imagePlan, 0, len(mf.Images))
	for _, img := range mf.Images {
		if err := a.room(slot, img); err != nil {
			return nil, err
		}
		version := ""
		if running != nil {
			version = running.Version.String()
		}
		plans = append(plans, route(mf.Deltas, img, a.slotPlace(m, slot, img, running), version))
	}
	return plans, nil
}

// room compares the partition with what has to go there: the image and its tree.
func (a *Agent) room(slot partitions.Slot, img release.Image) error {
	if err := verity.CheckSize(img.Size); err != nil {
		return &Refusal{Reason{CodeIncompatible, fmt.Sprintf("image %s: %v", img.Name, err)}, err}
	}
	dev, err := a.o.Slots.OpenRead(slot, img.Name)
	if err != nil {
		return &Refusal{Reason{CodeSlot, fmt.Sprintf("open image %s of slot %s: %v", img.Name, slot, err)}, err}
	}
	defer dev.Close()
	if need := img.Size + verity.TreeSize(img.Size); dev.Size() < need {
		return &Refusal{Reason{CodeNoRoom, fmt.Sprintf("image %s of slot %s: partition has %d bytes, image and hash tree need %d", img.Name, slot, dev.Size(), need)}, nil}
	}
	return nil
}

// route chooses for one image, by bytes, among what can be told without the network:
// weigh adds blocks. version is the one of the image that is replaced.
func route(deltas []release.Delta, img release.Image, at place, version string) imagePlan {
	best := imagePlan{image: img, kind: routeFull, blob: img.Full, bytes: img.Full.Size, place: at}
	all := []Route{{Image: img.Name, Kind: routeFull, Download: img.Full.Size}}
	if base := at.base; base.Size > 0 {
		k := slices.IndexFunc(deltas, func(d release.Delta) bool { return d.Image == img.Name && d.From == base.Root })
		if k >= 0 {
			d := deltas[k]
			all = append(all, Route{Image: img.Name, Kind: routeDelta, Download: d.Size, Text: "from " + version})
			if d.Size < img.Full.Size {
				best.kind, best.blob, best.bytes, best.from, best.base = routeDelta, d.Blob, d.Size, base.Root, base.Size
			}
		}
		if base.Root == img.Root && base.Size == img.Size {
			all = append(all, Route{Image: img.Name, Kind: routeCopy, Text: "unchanged since " + version})
			best.kind, best.blob, best.bytes, best.from, best.base = routeCopy, release.Blob{}, 0, base.Root, base.Size
		}
	}
	best.all = all
	best.choose(best.kind)
	return best
}

// choose marks the route that is taken.
func (p *imagePlan) choose(kind string) {
	p.kind = kind
	for i := range p.all {
		p.all[i].Chosen = p.all[i].Kind == kind
	}
}

// offer sums up the routes of a release.
func offer(mf *release.Manifest, plans []imagePlan) *Offer {
	o := &Offer{Version: mf.Version, Deployment: mf.Deployment(), Route: routeCopy}
	for _, p := range plans {
		o.DownloadBytes += p.bytes
		if slices.Index(routeOrder[:], p.kind) > slices.Index(routeOrder[:], o.Route) {
			o.Route = p.kind
		}
	}
	return o
}

// routeOrder is how routes rank when one word is to be said of several images.
var routeOrder = [...]string{routeCopy, routeDelta, routeBlocks, routeFull}

func (a *Agent) unproven() bool {
	var h hostRecord
	// An unreadable record is repaired by prepare; until then nothing says "unproven".
	_ = a.st.load(fileHost, &h)
	return h.Unproven
}
