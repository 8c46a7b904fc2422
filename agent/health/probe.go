package health

import "time"

// Probe is one health check. Exactly one of Unit, Command, HTTP, TCP is set.
type Probe struct {
	Name     string        `json:"name"`
	Unit     string        `json:"unit,omitempty"`
	Command  []string      `json:"command,omitempty"`
	HTTP     string        `json:"http,omitempty"`
	TCP      string        `json:"tcp,omitempty"`
	Required bool          `json:"required"`
	Timeout  time.Duration `json:"timeout"`
}
