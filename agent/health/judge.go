package health

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Rules are the two periods of a trial.
type Rules struct {
	Deadline time.Duration // from the start of the trial until all required probes must be good
	Soak     time.Duration // for which they then have to stay good
}

// Result is what one probe said in one round.
type Result struct {
	Probe string
	Err   error // nil: healthy
}

// State is how a trial stands.
type State string

// The states. Healthy and Unhealthy are final.
const (
	Pending   State = "pending"
	Healthy   State = "healthy"
	Unhealthy State = "unhealthy"
)

// Verdict is what a Judge says after a round.
type Verdict struct {
	State State
	// Reasons say why, one line each: what is still waited for, or what failed.
	Reasons []string
	// Evidence holds the last words of the probes that failed, one line each and at
	// most MaxEvidence bytes in all.
	Evidence []string
}

// MaxEvidence bounds the evidence of a verdict and the output kept of one probe, in bytes.
const MaxEvidence = 4 << 10

// Judge decides one trial.
//
// The deadline is the latest moment for a good stretch to begin: a stretch under way
// at the deadline may soak to its end, and the first failure after the deadline is
// final. So a verdict is due at Deadline + Soak at the latest.
type Judge struct {
	rules    Rules
	probes   []Probe
	excused  map[string]bool
	goodFrom time.Duration // beginning of the good stretch, if good
	good     bool
	last     Verdict
}

// NewJudge returns the judge of one trial. failedBefore names the probes that failed
// on the old slot just before it.
func NewJudge(r Rules, probes []Probe, failedBefore []string) *Judge {
	j := &Judge{rules: r, probes: probes, excused: map[string]bool{}, last: Verdict{State: Pending}}
	for _, n := range failedBefore {
		j.excused[n] = true
	}
	return j
}

// Observe takes the results of one round, at a time since the start of the trial (by
// a clock that nobody sets), and returns the verdict so far. A required probe without
// a result counts as failed. After a final verdict it returns that again.
func (j *Judge) Observe(at time.Duration, results []Result) Verdict {
	if j.last.State != Pending {
		return j.last
	}
	failed, notes, evidence := j.sift(results)
	if len(failed) > 0 {
		j.good = false
	} else if !j.good {
		j.good, j.goodFrom = true, at
	}
	v := Verdict{State: Pending, Evidence: evidence}
	switch {
	case j.good && at-j.goodFrom >= j.rules.Soak && j.goodFrom <= j.rules.Deadline:
		v.State = Healthy
		v.Reasons = append(v.Reasons, fmt.Sprintf("all required probes were good for %s", round(at-j.goodFrom)))
	case j.good && j.goodFrom <= j.rules.Deadline:
		v.Reasons = append(v.Reasons, fmt.Sprintf("all required probes are good; soaking for another %s", round(j.rules.Soak-(at-j.goodFrom))))
	case at < j.rules.Deadline:
		v.Reasons = append(failed, fmt.Sprintf("the deadline is in %s", round(j.rules.Deadline-at)))
	default:
		v.State = Unhealthy
		if j.good {
			failed = []string{"the required probes became good only after the deadline"}
		}
		v.Reasons = append(failed, fmt.Sprintf("the deadline of %s has passed", j.rules.Deadline))
	}
	v.Reasons = append(v.Reasons, notes...)
	j.last = v
	return v
}

// sift splits a round into the failures that count, those that do not, and evidence.
func (j *Judge) sift(results []Result) (failed, notes, evidence []string) {
	byName := map[string]error{}
	for _, r := range results {
		byName[r.Probe] = r.Err
	}
	room := MaxEvidence
	for _, p := range j.probes {
		err, ran := byName[p.Name]
		if !ran {
			err = errors.New("was not carried out")
		}
		if err == nil {
			continue
		}
		line := fmt.Sprintf("probe %s: %s", p.Name, firstLine(err.Error()))
		switch {
		case !p.Required:
			notes = append(notes, line+" (advisory)")
		case j.excused[p.Name]:
			notes = append(notes, line+" (failed before the trial too)")
		default:
			failed = append(failed, line)
		}
		var f *Failure
		if errors.As(err, &f) && f.Output != "" {
			for l := range strings.Lines(f.Output) {
				l = p.Name + ": " + strings.TrimRight(l, "\r\n")
				if room -= len(l); room < 0 {
					break
				}
				evidence = append(evidence, l)
			}
		}
	}
	return failed, notes, evidence
}

// FailedIn returns the names of the probes that failed in a round: the baseline.
func FailedIn(results []Result) []string {
	var names []string
	for _, r := range results {
		if r.Err != nil {
			names = append(names, r.Probe)
		}
	}
	return names
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return s
}

func round(d time.Duration) time.Duration { return d.Round(time.Second) }
