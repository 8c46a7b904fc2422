package tryboot

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxSize is how many bytes of autoboot.txt the firmware reads.
const MaxSize = 512

// MaxPartition is the highest partition that the firmware boots from.
const MaxPartition = 63

// The keys and sections that this package sets.
const (
	keyPartition = "boot_partition"
	keyAB        = "tryboot_a_b"
	sectionAll   = "all"
	sectionTry   = "tryboot"
)

// Config is an autoboot.txt. Lines that it does not know stay as they are.
type Config struct {
	lines []line
}

// line is one line, and the section that it lies in.
type line struct {
	section    string
	key, value string // empty: a header, a remark or nothing
	raw        string
}

// Parse reads an autoboot.txt.
func Parse(b []byte) (*Config, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("autoboot.txt: got %d bytes, want at most %d", len(b), MaxSize)
	}
	c, section := &Config{}, sectionAll
	for raw := range strings.Lines(string(b)) {
		text := strings.TrimSpace(raw)
		l := line{section: section, raw: strings.TrimRight(raw, "\r\n")}
		switch key, value, ok := strings.Cut(text, "="); {
		case strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]"):
			section = text[1 : len(text)-1]
			l.section = section
		case ok && !strings.HasPrefix(text, "#"):
			l.key, l.value = strings.TrimSpace(key), strings.TrimSpace(value)
		}
		c.lines = append(c.lines, l)
	}
	return c, nil
}

// Partitions returns the partition that stands and the one that is tried; 0 means that
// none is named.
func (c *Config) Partitions() (standing, try int, err error) {
	if standing, err = c.partition(sectionAll); err != nil {
		return 0, 0, err
	}
	try, err = c.partition(sectionTry)
	return standing, try, err
}

// partition returns the last one that a section names, as the firmware does.
func (c *Config) partition(section string) (n int, err error) {
	for _, l := range c.lines {
		if l.section == section && l.key == keyPartition {
			if n, err = strconv.Atoi(l.value); err != nil || n < 1 || n > MaxPartition {
				return 0, fmt.Errorf("autoboot.txt: section %.20s: %s=%.20s: want 1 to %d", section, keyPartition, l.value, MaxPartition)
			}
		}
	}
	return n, nil
}

// Set names the partition that stands and the one that is tried. It also sets
// tryboot_a_b, without which the firmware would look for tryboot.txt instead.
func (c *Config) Set(standing, try int) error {
	if standing < 1 || standing > MaxPartition || try < 1 || try > MaxPartition || standing == try {
		return fmt.Errorf("autoboot.txt: got partitions %d and %d, want two of 1 to %d", standing, try, MaxPartition)
	}
	c.set(sectionAll, keyAB, "1")
	c.set(sectionAll, keyPartition, strconv.Itoa(standing))
	c.set(sectionTry, keyPartition, strconv.Itoa(try))
	return nil
}

// set gives key one value in a section: in its first place, or else at the section's end.
func (c *Config) set(section, key, value string) {
	now := line{section, key, value, key + "=" + value}
	var out []line
	at := -1
	for _, l := range c.lines {
		if l.section == section && l.key == key {
			if at < 0 {
				at = len(out)
				out = append(out, now)
			}
			continue
		}
		out = append(out, l)
	}
	for i := len(out) - 1; i >= 0 && at < 0; i-- {
		if out[i].section == section {
			at = i + 1
			out = append(out[:at], append([]line{now}, out[at:]...)...)
		}
	}
	if at < 0 {
		out = append(out, line{section: section, raw: "[" + section + "]"}, now)
	}
	c.lines = out
}

// Encode returns the file.
func (c *Config) Encode() ([]byte, error) {
	var b strings.Builder
	for _, l := range c.lines {
		b.WriteString(l.raw + "\n")
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("autoboot.txt: got %d bytes, want at most %d", b.Len(), MaxSize)
	}
	return []byte(b.String()), nil
}
