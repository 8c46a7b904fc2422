package appbuild

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/twinkeel/twinkeel/release"
)

// MaxSpec bounds app.toml, in bytes.
const MaxSpec = 256 << 10

// Spec is app.toml. What is missing is taken from the container image, or a default.
type Spec struct {
	Publisher  string          `toml:"publisher"`
	Name       string          `toml:"name"`
	Version    release.Version `toml:"version"`
	Arch       string          `toml:"arch"`
	Class      string          `toml:"class"`
	MinUpdater release.Version `toml:"minUpdater"`
	After      []string        `toml:"after"`
	// SkipVolumes are paths that the image calls volumes and that need not last.
	SkipVolumes []string          `toml:"skipVolumes"`
	Run         runSpec           `toml:"run"`
	Isolation   isolationSpec     `toml:"isolation"`
	Limits      limitsSpec        `toml:"limits"`
	Network     networkSpec       `toml:"network"`
	Data        []volumeSpec      `toml:"data"`
	Health      healthSpec        `toml:"health"`
	Update      updateSpec        `toml:"update"`
	Permissions []permissionSpec  `toml:"permissions"`
	Meta        map[string]string `toml:"meta"`
}

type runSpec struct {
	Argv   []string          `toml:"argv"`
	Env    map[string]string `toml:"env"`
	Cwd    string            `toml:"cwd"`
	User   *string           `toml:"user"` // names are those of the image
	Signal string            `toml:"signal"`
	Grace  *release.Duration `toml:"grace"`
}

type isolationSpec struct {
	Level  string `toml:"level"`
	Kernel string `toml:"kernel"`
}

type limitsSpec struct {
	Memory size `toml:"memory"`
	CPU    int  `toml:"cpu"`
	Pids   int  `toml:"pids"`
	Files  int  `toml:"files"`
	Tmp    size `toml:"tmp"`
	Log    size `toml:"log"`
}

type networkSpec struct {
	Mode    string       `toml:"mode"`
	Publish []portSpec   `toml:"publish"`
	Sockets []socketSpec `toml:"sockets"`
}

type portSpec struct {
	Name  string `toml:"name"`
	Proto string `toml:"proto"`
	Host  uint16 `toml:"host"`
	App   uint16 `toml:"app"`
}

type socketSpec struct {
	Name   string `toml:"name"`
	Listen string `toml:"listen"`
}

type volumeSpec struct {
	Name  string `toml:"name"`
	Path  string `toml:"path"`
	Class string `toml:"class"`
	Quota size   `toml:"quota"`
}

type healthSpec struct {
	HTTP      string            `toml:"http"`
	TCP       uint16            `toml:"tcp"`
	Exec      []string          `toml:"exec"`
	None      bool              `toml:"none"` // not even the image's own check
	Start     *release.Duration `toml:"start"`
	Interval  *release.Duration `toml:"interval"`
	Timeout   *release.Duration `toml:"timeout"`
	Failures  *int              `toml:"failures"`
	Probation *release.Duration `toml:"probation"`
}

type updateSpec struct {
	Strategy   string `toml:"strategy"`
	Restart    string `toml:"restart"`
	DataFormat *int   `toml:"dataFormat"`
	DataReads  *int   `toml:"dataReads"`
}

type permissionSpec struct {
	Name  string `toml:"name"`
	Value string `toml:"value"`
}

// size is a number of bytes, written "64M".
type size int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *size) UnmarshalText(b []byte) error {
	n, err := ParseSize(string(b))
	*s = size(n)
	return err
}

// ParseSize reads a number of bytes with a unit of K, M or G: powers of 1024.
func ParseSize(text string) (int64, error) {
	digits, unit := text, int64(1)
	for i, u := range []string{"K", "M", "G"} {
		if d, ok := strings.CutSuffix(text, u); ok {
			digits, unit = d, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("size %.40q: want a number of bytes, with K, M or G behind it if need be", text)
	}
	return n * unit, nil
}

// ParseSpec reads app.toml. A key that it does not know is an error with its line.
func ParseSpec(b []byte) (*Spec, error) {
	if len(b) > MaxSpec {
		return nil, fmt.Errorf("got %d bytes, want at most %d", len(b), MaxSpec)
	}
	var s Spec
	d := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	err := d.Decode(&s)
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		line, _ := unknown.Errors[0].Position()
		return nil, fmt.Errorf("line %d: unknown key %s", line, strings.Join(unknown.Errors[0].Key(), "."))
	case errors.As(err, &bad):
		line, _ := bad.Position()
		return nil, fmt.Errorf("line %d: %s: %w", line, strings.Join(bad.Key(), "."), err)
	case err != nil:
		return nil, err
	}
	return &s, nil
}
