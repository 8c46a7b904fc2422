package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// clock returns the system's clock or, under faketime(1), what that makes of it: a
// preloaded library, which date(1) heeds and a Go program does not.
func clock(ctx context.Context) (func() time.Time, error) {
	if os.Getenv("FAKETIME") == "" {
		return time.Now, nil
	}
	out, err := exec.CommandContext(ctx, "date", "+%s").Output()
	if err != nil {
		return nil, fmt.Errorf("date: %w", err)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("date: %w", err)
	}
	t := time.Unix(seconds, 0).UTC()
	return func() time.Time { return t }, nil
}
