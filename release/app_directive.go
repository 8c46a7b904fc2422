package release

import (
	"fmt"
	"time"
)

// AppDirectiveFormat is the format of app directives that this code writes and reads.
const AppDirectiveFormat = 1

// AppDirective says which release of an application a fleet shall run, apart from the
// releases of the OS. It only chooses among signed releases, delays, or halts. Without one
// an application is what the OS release names.
// Source of the format: docs/format-app.md, "Directive".
type AppDirective struct {
	Format    int       `json:"format"`
	Channel   string    `json:"channel"`
	Publisher string    `json:"publisher"`
	Name      string    `json:"name"`
	Version   Version   `json:"version"`
	Permille  int       `json:"permille"` // share of hosts that may install, 0 to 1000
	Salt      string    `json:"salt"`     // makes the order of hosts another one for each release
	NotBefore time.Time `json:"notBefore"`
	// Paused holds the application: what runs stays, whatever Version says.
	Paused bool `json:"paused"`
	// ComeDown asks hosts that run a withdrawn, newer version to go to Version.
	ComeDown bool `json:"comeDown"`
}

// AppDirectiveName is the TUF target name of the directive of one application. It lies
// beside the fleet's directive, as fleet roles sign no deeper directories.
func AppDirectiveName(fleet, name string) string { return "fleet/" + fleet + "/app-" + name + ".json" }

// Encode returns the canonical bytes of d, or why d is not a valid directive.
func (d *AppDirective) Encode() ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("encode directive of app %s: %w", d.Name, err)
	}
	return encode(d)
}

// DecodeAppDirective reads a canonical directive of an application.
func DecodeAppDirective(b []byte) (*AppDirective, error) {
	var d AppDirective
	if err := decode(b, MaxDirectiveSize, &d); err != nil {
		return nil, fmt.Errorf("app directive: %w", err)
	}
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("app directive: %w", err)
	}
	return &d, nil
}

// Validate reports the first thing in d that no valid directive says.
func (d *AppDirective) Validate() error {
	if d.Format != AppDirectiveFormat {
		return fmt.Errorf("format: got %d, want %d", d.Format, AppDirectiveFormat)
	}
	for _, c := range []struct{ what, name string }{{"channel", d.Channel}, {"publisher", d.Publisher}, {"name", d.Name}} {
		if err := CheckName(c.what, c.name); err != nil {
			return err
		}
	}
	// What is left means the same as in the fleet's own directive.
	rest := Directive{Format: DirectiveFormat, Channel: d.Channel, Version: d.Version, Permille: d.Permille, Salt: d.Salt, NotBefore: d.NotBefore}
	return rest.Validate()
}

// Includes reports whether the host is within the share that may install. Raising
// Permille never takes a host out.
func (d *AppDirective) Includes(hostID string) bool { return Bucket(d.Salt, hostID) < d.Permille }
