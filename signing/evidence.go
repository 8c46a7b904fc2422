package signing

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/twinkeel/twinkeel/signing/translog"
)

const (
	// evidenceFile keeps what the release log showed when it was not believed.
	evidenceFile = "evidence"
	maxEvidence  = 8 // records; the first ones and the newest one are kept
)

// evidence is one refusal of what was shown as the release log.
type evidence struct {
	Time    time.Time `json:"time"`
	Release string    `json:"release"` // that was looked for
	Text    string    `json:"text"`    // what was wrong
	Shown   string    `json:"shown"`   // the checkpoint as it was served; empty if none was
	Seen    string    `json:"seen"`    // the checkpoint that this host remembered; empty if none
}

// readEvidence returns what is on disk. A file that cannot be read is none: what it was to
// prove cannot be believed any more.
func (c *Client) readEvidence() []evidence {
	b, err := c.cfg.Dir.Read(evidenceFile)
	var list []evidence
	if err != nil || json.Unmarshal(b, &list) != nil {
		return nil
	}
	return list[:min(len(list), maxEvidence)]
}

// keepEvidence adds a record, unless the last one says the same.
func (c *Client) keepEvidence(e evidence) error {
	list := c.evidence
	if slices.ContainsFunc(list, func(old evidence) bool { return old.Text == e.Text && old.Shown == e.Shown }) {
		return nil
	}
	if len(list) == maxEvidence {
		list = list[:maxEvidence-1]
	}
	c.evidence = append(slices.Clone(list), e)
	b, err := json.Marshal(c.evidence)
	if err != nil {
		return err
	}
	return c.cfg.Dir.Replace(evidenceFile, append(b, '\n'))
}

// truncate cuts a text to at most n bytes.
func truncate(s string, n int) string { return s[:min(len(s), n)] }

// LogState is what a host knows of the release log.
type LogState struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"` // entries of the newest checkpoint
	// Warning says why the release looked up last is not in the log, under policy warn.
	Warning string `json:"warning,omitempty"`
	// Refused tells what was shown as the log and not believed; the file trust/evidence
	// holds the signed checkpoints.
	Refused []string `json:"refused,omitempty"`
}

// logState summarises the log.
func (c *Client) logState() LogState {
	var s LogState
	if seen, err := translog.Remembered(c.floors.state.Log.text()); err == nil {
		s.Origin, s.Size = seen.Origin, seen.Size
	}
	s.Warning = c.logWarning
	for _, e := range c.evidence {
		s.Refused = append(s.Refused, e.Time.Format(time.RFC3339)+": "+truncate(e.Text, 500))
	}
	return s
}
