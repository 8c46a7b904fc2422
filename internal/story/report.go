package story

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/machine"
)

// table is the report: one row for each step, printed when the step is done.
type table struct{ out io.Writer }

// row is one step. Zero fields are printed as blanks.
type row struct {
	step  string
	took  time.Duration
	moved int64 // bytes that a host fetches, or fetched
	full  int64 // bytes of the same release in full
	used  machine.Usage
	notes []string
}

const columns = "  %-38s %8s  %9s %8s  %7s %8s"

func (t *table) open(out io.Writer, title string) error {
	t.out = out
	header := fmt.Sprintf(columns, "", "time", "bytes", "of full", "CPU", "memory")
	_, err := fmt.Fprintf(out, "%s\n\n%s\n  %s\n", title, header, strings.Repeat("─", len(header)-2))
	return err
}

func (t *table) add(r row) error {
	moved, share, cpu, memory := "", "", "", ""
	if r.full > 0 {
		moved, share = megabytes(r.moved), fmt.Sprintf("%.1f %%", 100*float64(r.moved)/float64(r.full))
	}
	if r.used.Peak > 0 {
		cpu, memory = seconds(r.used.CPU), fmt.Sprintf("%d MB", r.used.Peak/1e6)
	}
	line := fmt.Sprintf(columns, r.step, seconds(r.took), moved, share, cpu, memory)
	if _, err := fmt.Fprintln(t.out, strings.TrimRight(line, " ")); err != nil {
		return err
	}
	return t.note(r.notes...)
}

func (t *table) note(lines ...string) error {
	for _, n := range lines {
		if _, err := fmt.Fprintf(t.out, "      %s\n", n); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) close(took time.Duration) error {
	_, err := fmt.Fprintf(t.out, "\n  All as it should be, in %s.\n", seconds(took))
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func megabytes(n int64) string {
	if n < 1e5 {
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
