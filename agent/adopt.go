package agent

import (
	"context"
	"fmt"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// adopt takes the factory slot over as committed. Its manifest comes with the disk: what
// the slot holds is compared with it, and a slot without one is adopted as unknown, to
// be updated by full images. Called again it changes nothing.
func (a *Agent) adopt(ctx context.Context, factory []byte) (*Outcome, error) {
	if err := a.st.writable(); err != nil {
		return nil, err
	}
	boot, err := a.o.Loader.Booted(ctx)
	if err != nil {
		return nil, &Refusal{Reason{CodeLoader, fmt.Sprintf("which slot runs: %v", err)}, err}
	}
	p, err := a.st.pointer(boot.Slot)
	if err != nil {
		return nil, err
	}
	var text string
	if p.Current == 0 {
		if text, err = a.adoptSlot(ctx, boot.Slot, factory); err != nil {
			return nil, err
		}
	}
	rec, err := a.o.Loader.Load(ctx)
	if err != nil {
		return nil, &Refusal{Reason{CodeLoader, fmt.Sprintf("read boot record: %v", err)}, err}
	}
	if r := rec.Slots[boot.Slot]; !r.Successful || !r.Bootable() {
		if rec.Slots[boot.Slot.Other()].Bootable() {
			return nil, &Refusal{Reason{CodeBusy, fmt.Sprintf("slot %s is on trial: it is committed when it is healthy", boot.Slot)}, nil}
		}
		if err := a.store(ctx, rec.Commit(boot.Slot)); err != nil {
			return nil, err
		}
	}
	if text == "" {
		return &Outcome{Text: fmt.Sprintf("slot %s is committed already, nothing to do", boot.Slot), Reasons: []Reason{{CodeCurrent, "initialised before"}}}, nil
	}
	return &Outcome{Text: text}, a.st.record(HistoryEntry{Time: a.now(), Kind: "init", Result: "done", Slot: boot.Slot.String(), Text: text})
}

func (a *Agent) adoptSlot(ctx context.Context, slot partitions.Slot, factory []byte) (string, error) {
	if len(factory) == 0 {
		return a.adoptUnknown(slot)
	}
	mf, err := release.DecodeManifest(factory)
	if err != nil {
		return "", &Refusal{Reason{CodeUsage, "factory " + err.Error()}, err}
	}
	if mf.Compatible != a.o.Compatible {
		return "", &Refusal{Reason{CodeIncompatible, fmt.Sprintf("factory manifest: compatible: got %s, want %s", mf.Compatible, a.o.Compatible)}, nil}
	}
	d := Deployment{
		Digest: mf.Deployment(), Channel: a.o.Channel, Version: mf.Version, Epoch: mf.Epoch, Attempt: mf.Attempt, Apps: mf.Apps,
		Manifest: release.DigestOf(factory), Created: a.now(),
	}
	for _, i := range mf.Images {
		d.Images = append(d.Images, DeployedImage{i.Name, i.Size, i.Root, i.Salt})
	}
	reports, err := a.verifySlot(ctx, slot, &d)
	if err != nil {
		return "", err
	}
	if !allOK(reports) {
		return "", &Refusal{Reason{CodeSlot, fmt.Sprintf("slot %s is not release %s: %s", slot, mf.Version, firstFault(reports))}, nil}
	}
	n, err := a.st.newDeployment(d)
	if err != nil {
		return "", err
	}
	p := Pointer{Current: n, Committed: true, ReadsFormat: a.st.reads}
	if err := a.raiseEpoch(mf.Epoch); err != nil {
		return "", err
	}
	return fmt.Sprintf("slot %s is committed with release %s", slot, mf.Version), a.st.save(pointerFile(slot), &p)
}

// adoptUnknown begins on a host whose first image nobody described.
func (a *Agent) adoptUnknown(slot partitions.Slot) (string, error) {
	n, err := a.st.newDeployment(Deployment{Channel: a.o.Channel, Created: a.now()})
	if err != nil {
		return "", err
	}
	p := Pointer{Current: n, Committed: true, ReadsFormat: a.st.reads}
	return fmt.Sprintf("slot %s is committed; its release is not known, so the first update is a full one", slot), a.st.save(pointerFile(slot), &p)
}
