package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twinkeel/twinkeel/agent"
)

// Limits of the protocol.
const (
	MaxRequest     = 64 << 10 // bytes of a request
	MaxReply       = 16 << 20 // bytes of one line of an answer
	MaxConnections = 64
	RequestTime    = 5 * time.Second // to get a request across, and to take each line of its answer
)

// format is the protocol's version.
const format = 1

// message is a request as it travels. Its file is the bundle of an update, or the
// manifest of an init, which may be larger than a request.
// Source of the format: docs/FORMAT.md, "Control socket".
type message struct {
	Format  int           `json:"format"`
	File    bool          `json:"file,omitempty"` // a file descriptor comes with this line
	Request agent.Request `json:"request"`
}

// reply is one line of the answer: any number of events, then a result or an error.
type reply struct {
	Event  *agent.Event  `json:"event,omitempty"`
	Result *agent.Result `json:"result,omitempty"`
	Error  *failure      `json:"error,omitempty"`
}

// failure is an error as it travels.
type failure struct {
	Code string `json:"code"` // a reason code, or "" for an error that has none
	Text string `json:"text"`
}

// decodeMessage reads one line, which holds all of a request.
func decodeMessage(line []byte) (*message, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	var m message
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("request: bytes after the end of the message")
	}
	if m.Format != format {
		return nil, fmt.Errorf("request: format: got %d, want %d", m.Format, format)
	}
	if !known(m.Request.Verb) {
		return nil, fmt.Errorf("request: unknown verb %.40q", m.Request.Verb)
	}
	if m.File && m.Request.Verb != agent.VerbUpdate && m.Request.Verb != agent.VerbInit {
		return nil, fmt.Errorf("request: %s takes no file", m.Request.Verb)
	}
	return &m, nil
}

func known(v agent.Verb) bool { return reads(v) || changes(v) }

// reads tells the verbs that answer from what is known and change nothing.
func reads(v agent.Verb) bool {
	switch v {
	case agent.VerbStatus, agent.VerbHistory, agent.VerbWhy, agent.VerbDoctor, agent.VerbApps:
		return true
	}
	return false
}

// changes tells the verbs that change the host or make it work: a check uses the
// network, and verify reads a whole slot.
func changes(v agent.Verb) bool {
	switch v {
	case agent.VerbCheck, agent.VerbVerify, agent.VerbUpdate, agent.VerbRollback, agent.VerbHold,
		agent.VerbUnhold, agent.VerbUndeny, agent.VerbTrustReset, agent.VerbInit, agent.VerbApp:
		return true
	}
	return false
}

// wire turns an error of an operator into its form on the wire.
func wire(err error) *failure {
	var r *agent.Refusal
	switch {
	case errors.As(err, &r):
		return &failure{r.Code, r.Text}
	case errors.Is(err, context.Canceled):
		return &failure{"", "interrupted"}
	}
	return &failure{"", err.Error()}
}

// err is the error that wire was given, as far as it travels.
func (f *failure) err() error {
	if f.Code == "" {
		return errors.New(f.Text)
	}
	return &agent.Refusal{Reason: agent.Reason{Code: f.Code, Text: f.Text}}
}
