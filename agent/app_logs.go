package agent

import (
	"bytes"
	"context"
	"time"

	"github.com/twinkeel/twinkeel/workloads"
)

// maxLogLines bounds what one request gets of an application's output if it says how many
// lines it wants.
const maxLogLines = 1000

// logs answers with the newest lines of an application's output, or with those since a
// time.
func (a *Agent) logs(ctx context.Context, r Request) (*AppAnswer, error) {
	if err := a.needApps(r); err != nil {
		return nil, err
	}
	console := a.console()
	if console == nil {
		return nil, &Refusal{Reason{CodeUsage, "the runner of this host keeps no output"}, nil}
	}
	lines := min(max(r.App.Lines, 1), maxLogLines)
	if r.App.Lines == 0 && !r.App.Since.IsZero() {
		lines = 0 // all that are kept
	}
	var out limitedLog
	err := console.Logs(ctx, r.App.Name, lines, false, &out)
	return &AppAnswer{Logs: string(since(out, r.App.Since))}, err
}

// since drops the lines that were written before t. Each begins with its time.
func since(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	stamp := []byte(t.UTC().Format(workloads.LogTime))
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte{'\n'})
		if bytes.Compare(line, stamp) >= 0 {
			return b
		}
		b = rest
	}
	return b
}

// limitedLog keeps the last bytes that are written to it.
type limitedLog []byte

const maxLog = 1 << 20

// Write implements io.Writer and never fails.
func (l *limitedLog) Write(b []byte) (int, error) {
	*l = append(*l, b...)
	*l = (*l)[max(0, len(*l)-maxLog):]
	return len(b), nil
}
