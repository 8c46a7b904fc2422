package spec

import (
	"fmt"
	"slices"

	"github.com/twinkeel/twinkeel/release"
)

// Suits reports what a manifest wants that its isolation level cannot give. Nothing of
// it is left out quietly, and no lower level is taken.
func Suits(m *release.AppManifest) error {
	level := m.Isolation.Level
	if level == "container" {
		return nil
	}
	refuse := func(what string) error { return fmt.Errorf("level %s: %s", level, what) }
	switch {
	case len(m.Network.Sockets) > 0:
		return refuse("a listening socket of the host cannot be handed over to another kernel: publish a port")
	case m.Network.Mode == "host":
		return refuse("the host's network belongs to the host's kernel: want mode private or none")
	case m.Network.Mode == "none" && (m.Health.HTTP != "" || m.Health.TCP != 0):
		return refuse("without a network no check by http or tcp leads in: want health.exec, or mode private")
	}
	// What a level cannot give; the rest is nothing of the host's kernel.
	foreign := map[string][]string{
		"sandbox": {"device", "host-network", "isolation-userns"},
		"vm":      {"app-socket", "capability", "device", "host-network", "host-path", "isolation-userns"},
	}[level]
	for _, p := range m.Permissions {
		if slices.Contains(foreign, p.Name) {
			return refuse("permission " + p.Name + " leads to the host's kernel, which the application does not see")
		}
	}
	if level != "vm" {
		return nil
	}
	if m.Update.Strategy != "stop-start" && len(m.Data) > 0 {
		return refuse("strategy " + m.Update.Strategy + " would have two machines write to one disk: want stop-start")
	}
	if unikernel := m.Isolation.Kernel != ""; unikernel && len(m.Health.Exec) > 0 {
		return refuse("a kernel of the application's own runs no command for a check: want http or tcp")
	}
	return nil
}
