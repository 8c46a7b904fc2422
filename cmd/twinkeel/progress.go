package main

import (
	"fmt"
	"strings"

	"github.com/twinkeel/twinkeel/agent"
)

// progress shows events: as a bar on a terminal, as plain lines elsewhere.
type progress struct {
	out      *printer
	terminal bool

	last   agent.Event
	tenths int64 // of the bar that were printed as lines
	drawn  bool  // a bar stands in the current line
}

const barWidth = 30

// show takes one event.
func (p *progress) show(e agent.Event) {
	same := e.Step == p.last.Step && e.Text == p.last.Text
	if p.terminal && e.Total > 0 {
		if !same {
			p.finish()
		}
		p.bar(e)
	} else if tenths := tenthsOf(e); !same || tenths > p.tenths {
		p.finish()
		p.tenths = tenths
		p.out.line("%s", describe(e))
	}
	p.last = e
}

// finish leaves the line in which a bar stands.
func (p *progress) finish() {
	if p.drawn {
		fmt.Fprintln(p.out.w)
		p.drawn = false
	}
}

// bar draws over the current line. \r and "erase to the end of the line" are the only
// control sequences that this program ever writes.
func (p *progress) bar(e agent.Event) {
	done := min(max(e.Done, 0), e.Total)
	full := int(float64(done) / float64(e.Total) * barWidth)
	fmt.Fprintf(p.out.w, "\r%s [%s%s] %3d %% of %s\x1b[K", clean(label(e)),
		strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), int(float64(done)/float64(e.Total)*100), bytesText(e.Total))
	p.drawn = true
}

func label(e agent.Event) string {
	if e.Text == "" {
		return e.Step
	}
	return e.Step + ": " + e.Text
}

func describe(e agent.Event) string {
	if e.Total > 0 {
		return fmt.Sprintf("%s, %s of %s", label(e), bytesText(e.Done), bytesText(e.Total))
	}
	return label(e)
}

func tenthsOf(e agent.Event) int64 {
	if e.Total <= 0 {
		return 0
	}
	return int64(float64(e.Done) / float64(e.Total) * 10)
}
