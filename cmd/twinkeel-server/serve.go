package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/server/serve"
)

func newServeCommand() *cobra.Command {
	var o serve.Options
	var listen string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "serve DIR",
		Short: "Serve the repository to hosts",
		Long: `Serve answers hosts out of DIR/repository, or out of DIR if that is a bare repository.
It needs no key. /healthz fails when the timestamp is missing or expired; /metrics is for
Prometheus. Both are open to whoever can connect. Any web server that serves the same
directory does as well.

  twinkeel-server serve site
  twinkeel-server serve site --listen :443 --tls-cert cert.pem --tls-key key.pem` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (o.CertFile == "") != (o.KeyFile == "") {
				return usagef("--tls-cert and --tls-key go together")
			}
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			o.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			s, err := serve.Open(repositoryOf(args[0]), o)
			if err != nil {
				return err
			}
			ln, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return errors.Join(err, s.Close())
			}
			scheme := "http"
			if o.CertFile != "" {
				scheme = "https"
			}
			// Scripts read this line to learn the port when they asked for :0.
			fmt.Fprintf(cmd.OutOrStdout(), "listening on %s://%s\n", scheme, ln.Addr())
			return errors.Join(s.Serve(cmd.Context(), ln), s.Close())
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:8480", "address to listen on")
	f.StringVar(&o.CertFile, "tls-cert", "", "certificate chain in PEM, read again when it changes")
	f.StringVar(&o.KeyFile, "tls-key", "", "its key in PEM")
	f.IntVar(&o.Conns, "connections", 10_000, "connections at once")
	f.DurationVar(&o.Grace, "grace", 0, "time for requests at work when the server stops (default 10s)")
	f.BoolVarP(&verbose, "verbose", "v", false, "log polls without news as well")
	return cmd
}

// repositoryOf returns the directory to serve for a site or a bare repository.
func repositoryOf(dir string) string {
	inner := filepath.Join(dir, "repository")
	if info, err := os.Stat(inner); err == nil && info.IsDir() {
		return inner
	}
	return dir
}
