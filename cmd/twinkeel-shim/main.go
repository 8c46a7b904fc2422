package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/twinkeel/twinkeel/workloads/shim"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "twinkeel-shim: is started by the agent, for the directory of one application")
		os.Exit(2)
	}
	// No signal ends it: it ends with its application.
	if err := shim.Main(context.Background(), os.Args[1], slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		fmt.Fprintf(os.Stderr, "twinkeel-shim: %v\n", err)
		os.Exit(1)
	}
}
