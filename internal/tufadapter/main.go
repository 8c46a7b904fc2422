package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/signing"
)

const (
	// deadline bounds one call as a whole, and fetchTimeout one request of it.
	deadline     = 10 * time.Minute
	fetchTimeout = 30 * time.Second
	// maxTarget is the largest target in bytes; signing holds one in memory.
	maxTarget = 256 << 20
	// maxRootFile bounds what init reads; what signing takes is less.
	maxRootFile = 1 << 20
)

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

// run is main with its surroundings as values. It returns 0 or 1, whatever happens.
func run(args []string, stderr io.Writer) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(stderr, "tufadapter: panic: %v\n", r)
			code = 1
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	c, err := parse(args)
	if err == nil {
		err = c.do(ctx)
	}
	if err != nil {
		fmt.Fprintf(stderr, "tufadapter: %v\n", err)
		return 1
	}
	return 0
}

// call is one command line.
type call struct {
	verb, root               string
	metadataDir, metadataURL string
	targetDir, targetURL     string
	targets                  []string
}

func parse(args []string) (*call, error) {
	c := &call{}
	f := flag.NewFlagSet("tufadapter", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&c.metadataDir, "metadata-dir", "", "")
	f.StringVar(&c.metadataURL, "metadata-url", "", "")
	f.StringVar(&c.targetDir, "target-dir", "", "")
	f.StringVar(&c.targetURL, "target-base-url", "", "")
	f.Func("target-name", "", func(name string) error {
		c.targets = append(c.targets, name)
		return nil
	})
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	c.verb = f.Arg(0)
	need, args := map[string]string{"metadata-dir": c.metadataDir}, f.Args()
	switch c.verb {
	case "init":
		if len(args) != 2 {
			return nil, fmt.Errorf("init: got %d arguments, want a root file", len(args)-1)
		}
		c.root = args[1]
	case "download":
		if len(c.targets) == 0 {
			return nil, errors.New("download: no --target-name is given")
		}
		need["target-dir"], need["target-base-url"] = c.targetDir, c.targetURL
		fallthrough
	case "refresh":
		if len(args) != 1 {
			return nil, fmt.Errorf("%s: got %d arguments, want none", c.verb, len(args)-1)
		}
		need["metadata-url"] = c.metadataURL
	default:
		return nil, fmt.Errorf("verb: got %q, want init, refresh or download", c.verb)
	}
	for name, value := range need {
		if value == "" {
			return nil, fmt.Errorf("%s: --%s is not given", c.verb, name)
		}
	}
	return c, nil
}

func (c *call) do(ctx context.Context) error {
	dir, err := durable.OpenDir(c.metadataDir, true)
	if err != nil {
		return err
	}
	unlock, err := dir.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	now, err := clock(ctx)
	if err != nil {
		return err
	}
	cfg := signing.Config{Dir: dir, Now: now, FetchTimeout: fetchTimeout, Interop: true}
	if c.verb == "init" {
		return start(ctx, cfg, c.root)
	}
	client, err := signing.Open(cfg)
	if err != nil {
		return err
	}
	src := newSource(c.metadataURL, c.targetURL)
	if err := client.Refresh(ctx, src); err != nil {
		return err
	}
	for _, name := range c.targets {
		if c.verb != "download" {
			break
		}
		if err := c.download(ctx, client, src, name); err != nil {
			return err
		}
	}
	return nil
}

// start commits the first root. A refresh from a repository without any file does that,
// and then has to fail.
func start(ctx context.Context, cfg signing.Config, path string) error {
	root, err := readFile(path, maxRootFile)
	if err != nil {
		return err
	}
	cfg.Factory = root
	client, err := signing.Open(cfg)
	if err != nil {
		return err
	}
	err = client.Refresh(ctx, nowhere{})
	// The root may have expired long ago: newer ones may follow it.
	if code := signing.Code(err); code != signing.Unavailable && code != signing.Expired {
		return err
	}
	return nil
}
