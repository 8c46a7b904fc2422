package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/twinkeel/twinkeel/workloads"
)

// roles say which shim does what, by the unit's name. Each is the name of a directory;
// empty: there is none.
type roles struct {
	Unit string `json:"unit,omitempty"`
	Try  string `json:"try,omitempty"`
	Old  string `json:"old,omitempty"` // its end has begun
	// Last is how the unit was when it was stopped.
	Last workloads.State `json:"last,omitzero"`
}

func (r roles) all() []string {
	var list []string
	for _, id := range []string{r.Unit, r.Try, r.Old} {
		if id != "" {
			list = append(list, id)
		}
	}
	return list
}

// book is the file of all roles.
type book struct {
	Next  int              `json:"next"` // number of the next shim
	Units map[string]roles `json:"units"`
}

const bookFile = "roles.json"

func readBook(dir string) (*book, error) {
	b := book{Units: map[string]roles{}}
	raw, err := os.ReadFile(filepath.Join(dir, bookFile))
	if errors.Is(err, os.ErrNotExist) {
		return &b, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &b)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", bookFile, err)
	}
	return &b, nil
}

// write replaces the file; a process that is killed leaves the old one or the new one,
// and a reboot leaves none.
func (b *book) write(dir string) error {
	raw, err := json.Marshal(b)
	if err == nil {
		part := filepath.Join(dir, bookFile+".part")
		if err = os.WriteFile(part, raw, 0o600); err == nil {
			err = os.Rename(part, filepath.Join(dir, bookFile))
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", bookFile, err)
	}
	return nil
}
