package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/agent"
)

func (c *cli) appList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List applications, their versions and what they do",
		Example: "  twinkeel app list --json | jq -r '.apps[].name'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.askApps(cmd, agent.AppRequest{Do: agent.AppList})
			if err != nil {
				return err
			}
			if c.json {
				return c.out.json(a)
			}
			var rows [][]string
			for _, s := range a.Apps {
				row := []string{s.Name, "-", s.State, ""}
				if s.Version != nil {
					row[1] = s.Version.String()
				}
				if s.Offer != nil {
					row[3] = "offered " + s.Offer.String()
				}
				rows = append(rows, row)
			}
			if len(rows) == 0 {
				c.out.line("no application is wanted or installed")
			}
			c.out.table(rows)
			return nil
		},
	}
}

func (c *cli) appStatus() *cobra.Command {
	return &cobra.Command{
		Use:     "status [NAME]",
		Short:   "Show applications, and what keeps them from running or from updates",
		Example: "  twinkeel app status web",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.askApps(cmd, agent.AppRequest{Do: agent.AppList, Name: strings.Join(args, "")})
			if err != nil {
				return err
			}
			if c.json {
				return c.out.json(a)
			}
			for _, s := range a.Apps {
				showApp(c.out, s)
			}
			if t := a.Txn; t != nil {
				c.out.line("transaction %d  %s of %s  %s", t.Seq, t.Kind, strings.Join(t.Apps, ", "), t.Phase)
			}
			return nil
		},
	}
}

func showApp(p *printer, s agent.AppStatus) {
	version := "not installed"
	if s.Version != nil {
		version = s.Version.String()
	}
	p.line("app %s  %s  %s", s.Name, version, s.State)
	if s.Generation != "" {
		p.line("  data %s", s.Generation)
	}
	if r := s.Run; r != nil && r.Running {
		p.line("  since %s  restarts %d", timeText(r.Since), r.Restarts)
	} else if r != nil && r.Exit != "" {
		p.line("  ended %s", r.Exit)
	}
	if s.Offer != nil {
		p.line("  offer %s", s.Offer)
	}
	if s.Pin != nil {
		p.line("  pinned to %s", s.Pin)
	}
	if s.Switch != "" {
		p.line("  updates by %s", switchText(s))
	}
	for _, r := range s.Reasons {
		p.line("  reason  %s  %s", r.Code, r.Text)
	}
	for _, n := range s.Notes {
		p.line("  note  %s", n)
	}
}

// switchText is how an update would take the application's place, and why.
func switchText(s agent.AppStatus) string {
	if s.SwitchText == "" {
		return s.Switch
	}
	return s.Switch + ": " + s.SwitchText
}

func (c *cli) appWhy() *cobra.Command {
	return &cobra.Command{
		Use:     "why NAME",
		Short:   "Explain why an application is not updated or does not run",
		Example: "  twinkeel app why web",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.askApps(cmd, agent.AppRequest{Do: agent.AppWhy, Name: args[0]})
			if err != nil {
				return err
			}
			if c.json {
				return c.out.json(a)
			}
			for _, s := range a.Apps {
				if len(s.Reasons) == 0 {
					c.out.line("app %s is %s, and nothing keeps it from updates", s.Name, s.State)
				}
				for _, r := range s.Reasons {
					c.out.line("reason  %s  %s", r.Code, r.Text)
				}
				for _, n := range s.Notes {
					c.out.line("note  %s", n)
				}
				if s.SwitchText != "" {
					c.out.line("updates by %s", switchText(s))
				}
			}
			return nil
		},
	}
}

func (c *cli) appPermissions() *cobra.Command {
	return &cobra.Command{
		Use:     "permissions [NAME]",
		Short:   "List what applications ask for, and who granted it",
		Example: "  twinkeel app permissions web",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.askApps(cmd, agent.AppRequest{Do: agent.AppPermissions, Name: strings.Join(args, "")})
			if err != nil {
				return err
			}
			if c.json {
				return c.out.json(orEmpty(a.Permissions))
			}
			var rows [][]string
			for _, p := range a.Permissions {
				state := "not granted"
				if p.Granted {
					state = "granted"
				}
				rows = append(rows, []string{p.App, p.Permission, state, "by " + p.By})
			}
			if len(rows) == 0 {
				c.out.line("no permission is asked for")
			}
			c.out.table(rows)
			return nil
		},
	}
}

func (c *cli) appDataList() *cobra.Command {
	return &cobra.Command{
		Use:     "list [NAME]",
		Short:   "List the generations of applications' data",
		Example: "  twinkeel app data list web",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.askApps(cmd, agent.AppRequest{Do: agent.AppDataList, Name: strings.Join(args, "")})
			if err != nil {
				return err
			}
			if c.json {
				return c.out.json(orEmpty(a.Data))
			}
			var rows [][]string
			for _, d := range a.Data {
				state := "parked"
				switch {
				case d.Live:
					state = "live"
				case d.Kept:
					state = "kept"
				}
				rows = append(rows, []string{d.App, d.Generation, state, timeText(d.Made), d.Text})
			}
			if len(rows) == 0 {
				c.out.line("there is no data")
			}
			c.out.table(rows)
			return nil
		},
	}
}
