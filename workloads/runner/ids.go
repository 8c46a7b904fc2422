package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/workloads/spec"
)

// Ranges begin above what distributions give to users and below the sign bit.
const (
	firstRange = 0x20000000
	lastRange  = 0x6fff0000
	idsFile    = "app-ids.json"
)

// ids are the ranges that were given, by the application's name.
type ids struct {
	Next uint32            `json:"next"`
	Apps map[string]uint32 `json:"apps"`
}

// firstID is the first id of the application's range, which it gets once.
func firstID(dir durable.Dir, name string) (uint32, error) {
	given := ids{Next: firstRange, Apps: map[string]uint32{}}
	b, err := dir.Read(idsFile)
	if err == nil {
		err = json.Unmarshal(b, &given)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("ids of app %s: %w", name, err)
	}
	if first, ok := given.Apps[name]; ok {
		return first, nil
	}
	if given.Next < firstRange || given.Next > lastRange || given.Next%spec.IDs != 0 || given.Apps == nil {
		return 0, fmt.Errorf("ids of app %s: got %d as the next range, want one from %d to %d", name, given.Next, firstRange, lastRange)
	}
	first := given.Next
	given.Apps[name], given.Next = first, first+spec.IDs
	if b, err = json.Marshal(&given); err == nil {
		err = dir.Replace(idsFile, b)
	}
	if err != nil {
		return 0, fmt.Errorf("ids of app %s: %w", name, err)
	}
	return first, nil
}
