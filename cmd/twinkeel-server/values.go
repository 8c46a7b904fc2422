package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/release"
)

// versionValue is a flag that holds a version.
type versionValue struct{ v *release.Version }

func (f versionValue) String() string {
	if f.v == nil {
		return ""
	}
	return f.v.String()
}
func (f versionValue) Type() string { return "version" }
func (f versionValue) Set(s string) (err error) {
	*f.v, err = release.ParseVersion(s)
	return err
}

// versionsValue is a repeatable flag.
type versionsValue struct{ list *[]release.Version }

func (f versionsValue) String() string { return "" }
func (f versionsValue) Type() string   { return "version" }
func (f versionsValue) Set(s string) error {
	v, err := release.ParseVersion(s)
	*f.list = append(*f.list, v)
	return err
}

// daysValue is a duration that also takes days: "30d".
type daysValue struct{ d *time.Duration }

func (f daysValue) String() string {
	if f.d == nil || *f.d == 0 {
		return ""
	}
	if *f.d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(*f.d/(24*time.Hour))) + "d"
	}
	return f.d.String()
}
func (f daysValue) Type() string { return "duration" }
func (f daysValue) Set(s string) error {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		days, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is not a number of days", s)
		}
		*f.d = time.Duration(days) * 24 * time.Hour
		return nil
	}
	d, err := time.ParseDuration(s)
	*f.d = d
	return err
}

// percentValue holds a share of hosts in permille; it takes percent with one decimal.
type percentValue struct{ permille **int }

func (f percentValue) String() string { return "" }
func (f percentValue) Type() string   { return "percent" }
func (f percentValue) Set(s string) error {
	p, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	n := math.Round(p * 10)
	if err != nil || !(p >= 0 && p <= 100) || math.Abs(p*10-n) > 1e-9 {
		return fmt.Errorf("got %q, want 0 to 100 with at most one decimal", s)
	}
	v := int(n)
	*f.permille = &v
	return nil
}

// pairsValue collects NAME=VALUE, each name once.
type pairsValue map[string]string

func (f pairsValue) String() string { return "" }
func (f pairsValue) Type() string   { return "name=value" }
func (f pairsValue) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" || value == "" {
		return fmt.Errorf("got %q, want NAME=VALUE", s)
	}
	if _, twice := f[name]; twice {
		return fmt.Errorf("%s stands twice", name)
	}
	f[name] = value
	return nil
}

// appsValue collects [PUBLISHER/]NAME=VERSION, each name once.
type appsValue map[string]release.Version

func (f appsValue) String() string { return "" }
func (f appsValue) Type() string   { return "name=version" }
func (f appsValue) Set(s string) error {
	pair := pairsValue{}
	if err := pair.Set(s); err != nil {
		return err
	}
	for name, text := range pair {
		v, err := release.ParseVersion(text)
		if err != nil {
			return err
		}
		if _, twice := f[name]; twice {
			return fmt.Errorf("%s stands twice", name)
		}
		f[name] = v
	}
	return nil
}

// size writes a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB"}
	f := float64(n)
	i := 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
