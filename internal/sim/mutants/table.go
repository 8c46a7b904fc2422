package mutants

import "slices"

// Mutant is one planted bug: in File, Before is replaced by After, in which planted(Name)
// tells whether this bug is the one that is switched on.
type Mutant struct {
	Name, File    string
	Before, After string
	// Masked says why nothing can find the bug: another defence stands behind what it
	// breaks. Such a mutant does not count.
	Masked string
	// Rare is set if the histories that break a law are so few that the first comes too
	// late. Such a mutant does not count either; `make proof` looks for it for longer.
	Rare bool
}

// Table lists all planted bugs.
func Table() []Mutant {
	return slices.Concat(staging(), trials(), memory(), applications())
}

// staging are bugs on the way into the slot.
func staging() []Mutant {
	return []Mutant{
		{Name: "read-back-skipped", File: "agent/stage.go",
			Before: "\t\tif err := a.readBack(ctx, t, p); err != nil {",
			After:  "\t\tif planted(\"read-back-skipped\") {\n\t\t\tbreak\n\t\t}\n\t\tif err := a.readBack(ctx, t, p); err != nil {"},
		{Name: "tree-not-compared", File: "agent/verify.go",
			Before: "\t\tif s.root == img.Root && len(s.wrong) == 0 {",
			After:  "\t\tif s.root == img.Root && (len(s.wrong) == 0 || planted(\"tree-not-compared\")) {"},
		{Name: "clear-skipped", File: "agent/next.go",
			Before: "\tcase !o.Cleared:\n\t\treturn StepClear\n\tcase !o.Verified:",
			After:  "\tcase !o.Cleared && !planted(\"clear-skipped\"):\n\t\treturn StepClear\n\tcase !o.Verified:"},
		{Name: "not-described", File: "agent/stage.go",
			Before: "\tif err := a.describe(ctx, t.Slot, mf); err != nil {",
			After:  "\tif err := a.describe(ctx, t.Slot, mf); err != nil && !planted(\"not-described\") {",
			Masked: "the error of a description that failed is ignored: the store that arms refuses a slot without one"},
		{Name: "described-as-before", File: "agent/stage.go",
			Before: "\tt.VerifiedIn = m.boot.ID\n\treturn a.save(t)\n}\n\nfunc (c *checkpoint)",
			After:  "\tif planted(\"described-as-before\") {\n\t\tmf.Version, _ = release.ParseVersion(\"1\")\n\t\t_ = a.describe(ctx, t.Slot, mf)\n\t}\n\tt.VerifiedIn = m.boot.ID\n\treturn a.save(t)\n}\n\nfunc (c *checkpoint)"},
		{Name: "resume-beyond-checkpoint", File: "agent/stage.go",
			Before: "j.cp.Next, payloads, targets = i+k+1, 0, 0",
			After:  "j.cp.Next, payloads, targets = i+k+1, 0, 0\n\t\t\t\tif planted(\"resume-beyond-checkpoint\") {\n\t\t\t\t\tj.cp.Next++\n\t\t\t\t}",
			Masked: "the read-back finds the segment that was left out, and fetches it"},
		{Name: "checkpoint-before-flush", File: "agent/stage.go",
			Before: "\tif err := j.dev.Flush(); err != nil {\n\t\treturn err\n\t}\n\treturn j.p.place.save(j.cp)",
			After:  "\tif err := j.dev.Flush(); err != nil && !planted(\"checkpoint-before-flush\") {\n\t\treturn err\n\t}\n\treturn j.p.place.save(j.cp)",
			Masked: "the read-back begins with a flush of its own, and repairs what is not there"},
		{Name: "verified-in-any-boot", File: "agent/observe.go",
			Before: "Verified:   t.VerifiedIn == m.boot.ID,",
			After:  "Verified:   t.VerifiedIn == m.boot.ID || planted(\"verified-in-any-boot\") && t.Phase == Staged,"},
		{Name: "read-back-without-flush", File: "agent/verify.go",
			Before: "\tif err := dev.Flush(); err != nil {\n\t\treturn err\n\t}\n\timg := DeployedImage",
			After:  "\tif !planted(\"read-back-without-flush\") {\n\t\tif err := dev.Flush(); err != nil {\n\t\t\treturn err\n\t\t}\n\t}\n\timg := DeployedImage",
			Masked: "what a checkpoint names was flushed before it was written, and what it does not name is written and flushed again"},
		{Name: "repair-without-flush", File: "agent/verify.go",
			Before: "\tif err := dev.Flush(); err != nil {\n\t\treturn err\n\t}\n\tfor _, b := range blocks {\n\t\tif err := readFull",
			After:  "\tif !planted(\"repair-without-flush\") {\n\t\tif err := dev.Flush(); err != nil {\n\t\t\treturn err\n\t\t}\n\t}\n\tfor _, b := range blocks {\n\t\tif err := readFull"},
		{Name: "withdrawn-is-armed", File: "agent/permit.go",
			Before: "\tcase early, len(d.later) > 0 && (t.Phase == Staged || onlyHalted(d.later)):",
			After:  "\tcase planted(\"withdrawn-is-armed\"):\n\tcase early, len(d.later) > 0 && (t.Phase == Staged || onlyHalted(d.later)):"},
		{Name: "downgrade-ignored", File: "agent/poll.go",
			Before: "\tcase mf.Version.Compare(running.Version) < 0 && !w.force && !a.mayComeDown(d, mf.Version):",
			After:  "\tcase mf.Version.Compare(running.Version) < 0 && !w.force && !a.mayComeDown(d, mf.Version) && !planted(\"downgrade-ignored\"):"},
		{Name: "epoch-ignored", File: "agent/poll.go",
			Before: "\tif e := a.epoch(m); mf.Epoch < e {",
			After:  "\tif e := a.epoch(m); mf.Epoch < e && !planted(\"epoch-ignored\") {"},
		{Name: "hold-ignored", File: "agent/poll.go",
			Before: "\tif !w.force {\n\t\th, err := a.st.hold(now)",
			After:  "\tif !w.force && !planted(\"hold-ignored\") {\n\t\th, err := a.st.hold(now)"},
	}
}

// trials are bugs from the arming to the decision.
func trials() []Mutant {
	return []Mutant{
		{Name: "arm-before-journal", File: "agent/arm.go",
			Before: "\tt.Phase, t.ArmedIn = Armed, m.boot.ID\n",
			After:  "\tif planted(\"arm-before-journal\") {\n\t\tif err := a.arm(ctx, m, t); err != nil {\n\t\t\treturn err\n\t\t}\n\t}\n\tt.Phase, t.ArmedIn = Armed, m.boot.ID\n"},
		{Name: "armed-in-any-boot", File: "agent/next.go",
			Before: "\tcase o.SameBoot && !o.Raised:",
			After:  "\tcase (o.SameBoot || planted(\"armed-in-any-boot\")) && !o.Raised:"},
		{Name: "health-ignored", File: "agent/health.go",
			Before: "\t\t\ta.verdict, a.judged = VerdictUnhealthy, v",
			After:  "\t\t\ta.verdict, a.judged = VerdictUnhealthy, v\n\t\t\tif planted(\"health-ignored\") {\n\t\t\t\ta.verdict = VerdictHealthy\n\t\t\t}"},
		{Name: "commit-before-soak", File: "agent/health.go",
			Before: "\t\tv := a.judging.Observe(a.o.Uptime(), results)",
			After:  "\t\tv := a.judging.Observe(a.o.Uptime(), results)\n\t\tif planted(\"commit-before-soak\") && len(health.FailedIn(results)) == 0 {\n\t\t\tv.State = health.Healthy\n\t\t}"},
		{Name: "commit-without-verdict", File: "agent/next.go",
			Before: "\tcase o.Verdict == VerdictHealthy:\n\t\treturn StepCommit",
			After:  "\tcase o.Verdict == VerdictHealthy || planted(\"commit-without-verdict\"):\n\t\treturn StepCommit"},
		{Name: "revert-before-journal", File: "agent/revert.go",
			Before: "\ta.progress(Event{Step: \"revert\", Text: t.Verdict.Text})",
			After:  "\tif planted(\"revert-before-journal\") {\n\t\tif s, err := m.record.Revert(t.Slot); err == nil {\n\t\t\t_ = a.store(context.Background(), s)\n\t\t}\n\t}\n\ta.progress(Event{Step: \"revert\", Text: t.Verdict.Text})"},
		{Name: "left-without-denial", File: "agent/revert.go",
			Before: "\tif err := a.leaveTrialApps(t, v.Text); err != nil {",
			After:  "\tif planted(\"left-without-denial\") {\n\t\t_ = a.st.saveTwice(fileDenials, &denialRecord{})\n\t}\n\tif err := a.leaveTrialApps(t, v.Text); err != nil {"},
		{Name: "denial-ignored", File: "agent/poll.go",
			Before: "\tif denial != nil && !w.force {\n\t\tcode := CodeDenied",
			After:  "\tif denial != nil && !w.force && !planted(\"denial-ignored\") {\n\t\tcode := CodeDenied"},
		{Name: "panic-ignored", File: "agent/next.go",
			Before: "\tcase o.FellBack, o.Panicked:",
			After:  "\tcase o.FellBack, o.Panicked && !planted(\"panic-ignored\"):"},
		{Name: "panic-of-another-trial", File: "agent/aftermath.go",
			Before: "\tif _, at := a.kernelLog(t, t.ArmedAt); !at.Equal(t.OldPanic) {",
			After:  "\tif _, at := a.kernelLog(t, time.Time{}); planted(\"panic-of-another-trial\") {\n\t\treturn at\n\t}\n\tif _, at := a.kernelLog(t, t.ArmedAt); !at.Equal(t.OldPanic) {"},
		{Name: "lost-for-ever", File: "agent/revert.go",
			Before: "\tif t.Arms > len(lostWaits) {",
			After:  "\tif planted(\"lost-for-ever\") {\n\t\tt.Arms = 1\n\t}\n\tif t.Arms > len(lostWaits) {"},
		{Name: "tries-not-counted", File: "partitions/bootloader/simulated/poweron.go",
			Before: "\ts.Slots[slot].Tries = after.Slots[slot].Tries\n",
			After:  "\tif planted(\"tries-not-counted\") {\n\t\treturn true\n\t}\n\ts.Slots[slot].Tries = after.Slots[slot].Tries\n"},
		{Name: "epoch-not-raised", File: "agent/commit.go",
			Before: "\t\ts.Epoch = max(s.Epoch, to.Epoch)\n",
			After:  "\t\tif !planted(\"epoch-not-raised\") {\n\t\t\ts.Epoch = max(s.Epoch, to.Epoch)\n\t\t}\n"},
		{Name: "reboot-left-to-nobody", Rare: true, File: "agent/revert.go",
			Before: "\t\tt.NoReboot = false\n",
			After:  "\t\tt.NoReboot = t.NoReboot && planted(\"reboot-left-to-nobody\")\n"},
		{Name: "error-means-long-sleep", File: "agent/run.go",
			Before: "\tif err != nil {\n\t\t// Where",
			After:  "\tif err != nil && !planted(\"error-means-long-sleep\") {\n\t\t// Where"},
		{Name: "unproven-is-a-fallback", Rare: true, File: "agent/rollback.go",
			Before: "\tif m.record.Slots[m.boot.Slot].Successful {\n",
			After:  "\tif m.record.Slots[m.boot.Slot].Successful || planted(\"unproven-is-a-fallback\") {\n"},
		{Name: "retry-time-believed", File: "agent/permit.go",
			Before: "\treturn now.Before(retry) && retry.Sub(now) <= lostWaits[len(lostWaits)-1]",
			After:  "\treturn now.Before(retry) && (retry.Sub(now) <= lostWaits[len(lostWaits)-1] || planted(\"retry-time-believed\"))"},
	}
}

// memory are bugs in what survives: boot record, state and floors.
func memory() []Mutant {
	return []Mutant{
		{Name: "one-copy-of-the-record", File: "partitions/bootloader/record/record.go",
			Before: "\tif err := r.write(Second, value, s); err != nil {",
			After:  "\tif planted(\"one-copy-of-the-record\") {\n\t\treturn r.write(First, value, s)\n\t}\n\tif err := r.write(Second, value, s); err != nil {"},
		{Name: "record-not-flushed", File: "partitions/bootloader/record/record.go",
			Before: "\tif err := r.flush(); err != nil {\n\t\treturn fmt.Errorf(\"boot record: area %d: %w\", number, err)\n\t}\n\tr.known",
			After:  "\tif planted(\"record-not-flushed\") {\n\t\treturn nil\n\t}\n\tif err := r.flush(); err != nil {\n\t\treturn fmt.Errorf(\"boot record: area %d: %w\", number, err)\n\t}\n\tr.known"},
		{Name: "grub-env-not-flushed", File: "partitions/bootloader/grub/loader.go",
			Before: "\tif _, err := block.WriteAt(b, 0); err != nil {\n\t\treturn err\n\t}\n\treturn block.Flush()",
			After:  "\tif _, err := block.WriteAt(b, 0); err != nil {\n\t\treturn err\n\t}\n\tif planted(\"grub-env-not-flushed\") {\n\t\treturn nil\n\t}\n\treturn block.Flush()"},
		{Name: "killed-record-trusted", Rare: true, File: "agent/agent.go",
			Before: "\tif a.settled || t.Phase == Idle || m.record.Check() != nil {",
			After:  "\tif a.settled || t.Phase == Idle || m.record.Check() != nil || planted(\"killed-record-trusted\") {"},
		{Name: "failed-flush-trusted", Rare: true, File: "agent/arm.go",
			Before: "\t\ta.settled = false\n",
			After:  "\t\ta.settled = a.settled && planted(\"failed-flush-trusted\")\n"},
		{Name: "denial-lost-in-rebuild", File: "agent/observe.go",
			Before: "\treturn a.st.deny(mirrored)",
			After:  "\tif planted(\"denial-lost-in-rebuild\") {\n\t\treturn nil\n\t}\n\treturn a.st.deny(mirrored)"},
		{Name: "denials-written-once", File: "agent/records.go",
			Before: "\treturn s.saveTwice(fileDenials, &r)\n}\n\nfunc (s *store) undeny",
			After:  "\tif planted(\"denials-written-once\") {\n\t\treturn s.save(fileDenials, &r)\n\t}\n\treturn s.saveTwice(fileDenials, &r)\n}\n\nfunc (s *store) undeny"},
		{Name: "going-back-forgotten-with-journal", Rare: true, File: "agent/observe.go",
			Before: "\treturn Transaction{Phase: Reverting, Kind: KindUpdate,",
			After:  "\tif planted(\"going-back-forgotten-with-journal\") {\n\t\treturn Transaction{Phase: Idle}\n\t}\n\treturn Transaction{Phase: Reverting, Kind: KindUpdate,"},
		{Name: "held-and-armed", Rare: true, File: "agent/operator.go",
			Before: "\tt.Phase, t.ArmedIn = Staged, \"\"\n\tt.Arms--",
			After:  "\tif planted(\"held-and-armed\") {\n\t\treturn nil\n\t}\n\tt.Phase, t.ArmedIn = Staged, \"\"\n\tt.Arms--"},
		{Name: "rollback-of-a-commit", Rare: true, File: "agent/rollback.go",
			Before: "\tif t.Phase == Armed && a.observe(m, &t).Successful {",
			After:  "\tif t.Phase == Armed && a.observe(m, &t).Successful && !planted(\"rollback-of-a-commit\") {"},
		{Name: "denial-not-mirrored", Rare: true, File: "agent/revert.go",
			Before: "\t\ts.Denied, s.DeniedAttempt = to.Digest, to.Attempt\n",
			After:  "\t\tif !planted(\"denial-not-mirrored\") {\n\t\t\ts.Denied, s.DeniedAttempt = to.Digest, to.Attempt\n\t\t}\n"},
		{Name: "deployment-written-once", File: "agent/records.go",
			Before: "\treturn s.save(copyOf(name), v)",
			After:  "\tif planted(\"deployment-written-once\") {\n\t\treturn nil\n\t}\n\treturn s.save(copyOf(name), v)"},
		{Name: "copies-not-mended", File: "agent/observe.go",
			Before: "\t\tif err := a.st.mend(deploymentFile(n), &Deployment{}); err != nil {",
			After:  "\t\tif planted(\"copies-not-mended\") {\n\t\t\tcontinue\n\t\t}\n\t\tif err := a.st.mend(deploymentFile(n), &Deployment{}); err != nil {"},
		{Name: "trial-forgotten-with-journal", File: "agent/observe.go",
			Before: "\tcase m.onTrial():\n",
			After:  "\tcase planted(\"trial-forgotten-with-journal\"):\n\t\treturn t, nil\n\tcase m.onTrial():\n"},
		{Name: "damage-taken-for-truth", File: "agent/state.go",
			Before: "\tif got := e.sum(); got != e.SHA256 {",
			After:  "\tif got := e.sum(); got != e.SHA256 && !planted(\"damage-taken-for-truth\") {"},
		{Name: "old-deployments-kept", File: "agent/strays.go",
			Before: "\treturn slices.DeleteFunc(numbers, func(n uint64) bool { return keep[n] }), err\n",
			After:  "\treturn slices.DeleteFunc(numbers, func(n uint64) bool { return keep[n] || planted(\"old-deployments-kept\") }), err\n"},
		{Name: "format-of-the-newer-agent", File: "agent/agent.go",
			Before: "\t*a.st.writes = min(a.st.reads, max(other.ReadsFormat, 1))",
			After:  "\t*a.st.writes = min(a.st.reads, max(other.ReadsFormat, 1))\n\tif planted(\"format-of-the-newer-agent\") {\n\t\t*a.st.writes = a.st.reads\n\t}"},
		{Name: "floor-not-written", File: "signing/store.go",
			Before: "\tif err := s.c.floors.raise(edge, keys, version, signedAt); err != nil {\n\t\treturn fmt.Errorf(\"commit %s: %w\", role, err)\n\t}\n",
			After:  "\tif !planted(\"floor-not-written\") {\n\t\tif err := s.c.floors.raise(edge, keys, version, signedAt); err != nil {\n\t\t\treturn fmt.Errorf(\"commit %s: %w\", role, err)\n\t\t}\n\t}\n"},
	}
}
