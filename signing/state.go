package signing

import (
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// State summarises what is committed, for people.
type State struct {
	// Roles are root, timestamp, snapshot and targets, and then the delegated roles
	// used since the last Refresh; only those that could be loaded.
	Roles     []RoleState `json:"roles"`
	RootFloor int64       `json:"rootFloor"` // version of the newest root ever seen
	TimeFloor time.Time   `json:"timeFloor"` // proven to have passed
	// Problem says why updates are refused until trust is reset; normally empty.
	Problem string `json:"problem,omitempty"`
	// Log is the release log, if there is one.
	Log LogState `json:"log"`
}

// RoleState is one committed role.
type RoleState struct {
	Name    string    `json:"name"`
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
}

// State returns a summary. It may be called at any time, also during a Refresh, and
// then tells what was committed before it.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	s.Roles, s.Log.Refused = slices.Clone(s.Roles), slices.Clone(s.Log.Refused)
	return s
}

// publish makes s, which may be nil, what State returns.
func (c *Client) publish(s *session) {
	is := told{once: true, s: s, sequence: c.floors.state.Sequence, warning: c.logWarning}
	if len(c.evidence) > 0 {
		is.refused = &c.evidence[0]
	}
	if s != nil {
		is.root, is.timestamp, is.snapshot, is.roles = s.core.Root, s.core.Timestamp, s.core.Snapshot, len(s.roles)
	}
	if is == c.told {
		return // what these point to is only ever replaced
	}
	c.told = is
	st := State{RootFloor: c.floors.state.Root, TimeFloor: c.cfg.MinTime, Log: c.logState()}
	if err := c.usable(); err != nil {
		st.Problem = err.Error()
	}
	if s != nil {
		st.Roles = s.summary()
		st.TimeFloor = s.timeFloor()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = st
}

// told is what a State was made of.
type told struct {
	s         *session
	root      *metadata.Metadata[metadata.RootType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	roles     int
	sequence  uint64 // of the floors
	warning   string
	refused   *evidence
	once      bool
}

// summary lists the roles that the session holds.
func (s *session) summary() []RoleState {
	out := append(make([]RoleState, 0, 3+len(s.roles)), RoleState{metadata.ROOT, s.core.Root.Signed.Version, s.core.Root.Signed.Expires})
	if t := s.core.Timestamp; t != nil {
		out = append(out, RoleState{metadata.TIMESTAMP, t.Signed.Version, t.Signed.Expires})
	}
	if n := s.core.Snapshot; n != nil {
		out = append(out, RoleState{metadata.SNAPSHOT, n.Signed.Version, n.Signed.Expires})
	}
	roles := make([]RoleState, 0, len(s.roles))
	for _, r := range s.roles {
		if r.name == metadata.TARGETS {
			out = append(out, RoleState{r.name, r.version, r.expires})
			continue
		}
		roles = append(roles, RoleState{r.name, r.version, r.expires})
	}
	slices.SortFunc(roles, func(a, b RoleState) int { return strings.Compare(a.Name, b.Name) })
	return append(out, roles...)
}
