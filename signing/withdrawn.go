package signing

import (
	"context"
	"encoding/json"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// WithdrawnField is the member of a targets role's signed part that tells which targets
// were withdrawn, by name.
const WithdrawnField = "x-twinkeel-withdrawn"

// Withdrawal says why a target is no longer listed. It is for people: what counts for
// a host is that the target is not listed.
type Withdrawal struct {
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// withdrawals reads that member. One that cannot be read is no reason to refuse a role.
func withdrawals(t *metadata.TargetsType) map[string]Withdrawal {
	value, ok := t.UnrecognizedFields[WithdrawnField]
	if !ok {
		return nil
	}
	b, err := json.Marshal(value)
	var list map[string]Withdrawal
	if err != nil || json.Unmarshal(b, &list) != nil {
		return nil
	}
	return list
}

// Withdrawn says, from what is committed, whether and why a target was withdrawn.
func (c *Client) Withdrawn(name string) (w Withdrawal, ok bool) {
	s, err := c.committed()
	if err != nil {
		return w, false
	}
	r, err := s.role(context.Background(), nil, nil, metadata.TARGETS)
	if err != nil {
		return w, false
	}
	names, _ := r.delegates(name)
	for _, role := range names {
		d, err := s.role(context.Background(), nil, r, role)
		if err != nil {
			continue
		}
		if w, ok = d.withdrawn[name]; ok {
			return w, true
		}
	}
	return w, false
}
