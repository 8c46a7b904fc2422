package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent/config"
)

// TestMain lets this binary be a writer that has just read its configuration, with the
// fetcher that the environment names.
func TestMain(m *testing.M) {
	fetcher := os.Getenv("TWINKEELD_TEST_FETCHER")
	if fetcher == "" {
		os.Exit(m.Run())
	}
	confineWriter(&config.Config{Fetcher: fetcher}, slog.New(slog.NewTextHandler(os.Stdout, nil)))
	_, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	fmt.Print(errors.Is(err, unix.EPERM))
	os.Exit(0)
}

func TestTheWriterGivesUpTheNetworkUnlessItStartsTheFetcher(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("no filter on this architecture")
	}
	for fetcher, want := range map[string]string{"/run/twinkeel-fetcher/socket": "true", config.FetcherSpawn: "false"} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "TWINKEELD_TEST_FETCHER="+fetcher)
		out, err := cmd.Output()
		if err != nil || string(out) != want {
			t.Errorf("fetcher %s: socket() refused: got %q, %v, want %s", fetcher, out, err, want)
		}
	}
}
