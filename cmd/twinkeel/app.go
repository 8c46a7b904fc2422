package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/agent/writer"
	"github.com/twinkeel/twinkeel/release"
)

func (c *cli) app() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "app",
		Short: "See and steer the applications of this host",
		Long: `See and steer the applications of this host. An application is installed, updated and
left again together with its data; what a version that was left had written is parked,
listed by app data list, and can be restored.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(fmt.Errorf("app: want a command, such as list, update or rollback"))
		},
	}
	cmd.AddCommand(c.appList(), c.appStatus(), c.appWhy(), c.appPermissions(), c.appLogs(), c.appExec(), c.appData(),
		c.appUpdate(), c.appRollback(), c.appHold(), c.appPin(), c.appGrant(),
		c.appSimple(agent.AppUnhold, "End the hold of an application"),
		c.appSimple(agent.AppUnpin, "Let an application follow the newest version again"),
		c.appSimple(agent.AppStartIt, "Start an application that was stopped"),
		c.appSimple(agent.AppStopIt, "Stop an application until it is started by hand"),
		c.appSimple(agent.AppRestart, "Stop and start an application"),
	)
	return cmd
}

// askApps asks a question about applications.
func (c *cli) askApps(cmd *cobra.Command, r agent.AppRequest) (*agent.AppAnswer, error) {
	result, err := c.do(cmd.Context(), agent.Request{Verb: agent.VerbApps, App: &r})
	if err != nil {
		return nil, err
	}
	if result.Apps == nil {
		return nil, failed(errors.New("app: got an empty answer"))
	}
	return result.Apps, nil
}

// appSimple is a change that has no more to it than its name.
func (c *cli) appSimple(do agent.AppDo, short string) *cobra.Command {
	return &cobra.Command{
		Use:     string(do) + " NAME",
		Short:   short,
		Example: "  twinkeel app " + string(do) + " web",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.change(cmd, agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: do, Name: args[0]}})
		},
	}
}

func (c *cli) appUpdate() *cobra.Command {
	r := agent.Request{Verb: agent.VerbApp}
	var rehearse bool
	cmd := &cobra.Command{
		Use:   "update NAME [VERSION]",
		Short: "Install or update an application, and wait for the verdict over it",
		Long: `Install the version of an application that this host is offered, or VERSION. What runs
is stopped only once the new version is here and verified and its data can be cloned;
a version that fails its health check is left again, with the data of before.

With --rehearse nothing is installed: the new version is started beside the one that
runs, on a copy of its versioned data, where nobody reaches it and it reaches nobody; its
health is judged as after an update, and version and copy are dropped.`,
		Example: "  twinkeel app update web\n  twinkeel app update web 2.3.1 --force\n  twinkeel app update web --rehearse",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.App = &agent.AppRequest{Do: agent.AppUpdate, Name: args[0]}
			if rehearse {
				r.App.Do = agent.AppRehearse
			}
			if len(args) == 2 {
				v, err := release.ParseVersion(args[1])
				if err != nil {
					return usage(err)
				}
				r.App.Version = v
			}
			return c.change(cmd, r)
		},
	}
	cmd.Flags().BoolVar(&r.Force, "force", false, "despite a hold or a denial")
	cmd.Flags().BoolVar(&rehearse, "rehearse", false, "try it on a copy of the data, and install nothing")
	return cmd
}

func (c *cli) appRollback() *cobra.Command {
	r := agent.Request{Verb: agent.VerbApp}
	var data string
	cmd := &cobra.Command{
		Use:   "rollback NAME",
		Short: "Go back to the version before",
		Long: `Go back to the version of an application that ran before, without network. With
--data=keep it goes on with today's data, if it reads that; with --data=restore it has
its own data of then, and today's are parked.`,
		Example: "  twinkeel app rollback web --data=restore --reason 'orders are lost'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if data != "keep" && data != "restore" {
				return usage(fmt.Errorf("data: got %q, want keep or restore", data))
			}
			r.App = &agent.AppRequest{Do: agent.AppRollback, Name: args[0], Data: data}
			return c.change(cmd, r)
		},
	}
	cmd.Flags().StringVar(&data, "data", "keep", "what becomes of its data: keep or restore")
	cmd.Flags().StringVar(&r.Reason, "reason", "", "`TEXT` for the history")
	return cmd
}

func (c *cli) appHold() *cobra.Command {
	r := agent.Request{Verb: agent.VerbApp}
	var until string
	cmd := &cobra.Command{
		Use:     "hold NAME",
		Short:   "Leave an application as it is for now",
		Example: "  twinkeel app hold web --until 48h --reason 'sale'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if until != "" {
				t, err := parseUntil(until, time.Now())
				if err != nil {
					return usage(err)
				}
				r.Until = t
			}
			r.App = &agent.AppRequest{Do: agent.AppHold, Name: args[0]}
			return c.change(cmd, r)
		},
	}
	cmd.Flags().StringVar(&until, "until", "", "`TIME` at which the hold ends")
	cmd.Flags().StringVar(&r.Reason, "reason", "", "`TEXT` for status and history")
	return cmd
}

func (c *cli) appPin() *cobra.Command {
	return &cobra.Command{
		Use:     "pin NAME VERSION",
		Short:   "Want one version of an application and no other",
		Example: "  twinkeel app pin web 2.3.1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := release.ParseVersion(args[1])
			if err != nil {
				return usage(err)
			}
			return c.change(cmd, agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppPin, Name: args[0], Version: v}})
		},
	}
}

func (c *cli) appGrant() *cobra.Command {
	do := agent.AppGrantIt
	var revoke bool
	cmd := &cobra.Command{
		Use:     "grant NAME PERMISSION",
		Short:   "Give an application a permission that it asks for",
		Long:    "Give an application a permission that it asks for, as `twinkeel app permissions` lists it.",
		Example: "  twinkeel app grant web outbound\n  twinkeel app grant web device=/dev/ttyUSB0 --revoke",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if revoke {
				do = agent.AppRevokeIt
			}
			return c.change(cmd, agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: do, Name: args[0], Permission: args[1]}})
		},
	}
	cmd.Flags().BoolVar(&revoke, "revoke", false, "take it back; it counts from the next update on")
	return cmd
}

func (c *cli) appExec() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "exec NAME COMMAND [ARGUMENT...]",
		Short:   "Run a command in an application, confined as it is",
		Long:    "Run a command in an application, confined as it is. What follows NAME is the command's own.",
		Example: "  twinkeel app exec web /bin/sh -c 'ls /data'",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.started = true
			cfg, err := config.Load(c.path)
			if err != nil {
				return failed(err)
			}
			log := slog.New(slog.NewTextHandler(c.errs.w, &slog.HandlerOptions{Level: slog.LevelWarn}))
			console, err := writer.OpenConsole(cfg, log)
			if err != nil {
				return failed(err)
			}
			code, err := console.Exec(cmd.Context(), args[0], args[1:], os.Stdin, c.out.w, c.errs.w)
			if err != nil {
				return failed(err)
			}
			if code != 0 {
				return exitError{code: code}
			}
			return nil
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func (c *cli) appData() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data",
		Short: "See and restore the data of applications",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(fmt.Errorf("app data: want a command: list, restore or drop"))
		},
	}
	cmd.AddCommand(c.appDataList())
	for _, d := range []struct {
		use, short string
		do         agent.AppDo
	}{
		{"restore", "Go on with a copy of parked data; today's are parked", agent.AppDataRestore},
		{"drop", "Drop parked data for good", agent.AppDataDrop},
	} {
		cmd.AddCommand(&cobra.Command{
			Use:     d.use + " NAME GENERATION",
			Short:   d.short,
			Example: "  twinkeel app data " + d.use + " web g12",
			Args:    cobra.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.change(cmd, agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: d.do, Name: args[0], Generation: args[1]}})
			},
		})
	}
	return cmd
}
