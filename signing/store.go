package signing

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/twinkeel/twinkeel/release"
)

// roleFile is the file that holds a role's metadata. twinkeel's own role names are
// their own file names; other bytes, which only Interop lets in, are written as %XX.
func roleFile(role string) string {
	if isTopLevel(role) || CheckRoleName(role) == nil {
		return role + ".json"
	}
	var b strings.Builder
	for i := 0; i < len(role); i++ {
		c := role[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' && i > 0
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() > 150 {
		return release.DigestOf([]byte(role)).String() + ".json"
	}
	return b.String() + ".json"
}

// isRoleFile reports whether a file of the directory holds a role's metadata.
func isRoleFile(name string) bool { return strings.HasSuffix(name, ".json") }

func hasRoleFile(names []string) bool {
	for _, n := range names {
		if isRoleFile(n) {
			return true
		}
	}
	return false
}

// cachedRole returns the committed bytes of a role, or nil. A file that cannot be read
// counts as absent: the role is fetched again, and if the directory is at fault,
// committing it tells.
func (c *Client) cachedRole(role string) []byte {
	b, err := c.cfg.Dir.Read(roleFile(role))
	if err != nil {
		return nil
	}
	return b
}

// commit raises the floor of a role and then replaces its file: a power cut between the
// two leaves a floor whose metadata is fetched again.
func (s *session) commit(edge, role, keys string, version int64, signedAt time.Time, data []byte) error {
	if err := s.c.floors.raise(edge, keys, version, signedAt); err != nil {
		return fmt.Errorf("commit %s: %w", role, err)
	}
	return s.replace(role, data)
}

// replace makes data the committed metadata of a role, whose floor has been raised.
func (s *session) replace(role string, data []byte) error {
	if err := s.c.floors.settle(); err != nil {
		return fmt.Errorf("commit %s: %w", role, err)
	}
	if err := s.c.cfg.Dir.Replace(roleFile(role), data); err != nil {
		return fmt.Errorf("commit %s: %w", role, err)
	}
	return nil
}

// commitStart commits the root that a refresh starts from if it is not on disk, and
// makes good a floor that the loss of one copy has lowered.
func (s *session) commitStart() error {
	if !s.stored {
		return s.commitRoot()
	}
	return s.c.floors.raiseRoot(s.core.Root.Signed.Version)
}

// commitRoot raises the root floor and replaces root.json, in that order, but never for
// a root older than the floor.
func (s *session) commitRoot() error {
	version := s.core.Root.Signed.Version
	if version < s.c.floors.state.Root {
		return nil
	}
	if err := s.c.floors.raiseRoot(version); err != nil {
		return fmt.Errorf("commit root: %w", err)
	}
	return s.replace(metadata.ROOT, s.root)
}

// metadataPath is where the repository keeps one version of a role.
func (s *session) metadataPath(role string, version int64) string {
	// Names of twinkeel's own need no escape; of others, all but letters, digits and
	// "-_.~" is escaped, as other clients do.
	name := strings.ReplaceAll(url.QueryEscape(role), "+", "%20")
	if !s.core.Root.Signed.ConsistentSnapshot {
		return fmt.Sprintf("metadata/%s.json", name)
	}
	return fmt.Sprintf("metadata/%d.%s.json", version, name)
}
