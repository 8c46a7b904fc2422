package appbuild

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/twinkeel/twinkeel/internal/erofs/mkfs"
	"github.com/twinkeel/twinkeel/release"
)

// What an application gets that says nothing else.
const (
	defaultMemory = 256 << 20
	defaultCPU    = 1000
	defaultPids   = 256
	defaultFiles  = 1024
	defaultTmp    = 64 << 20
	defaultLog    = 8 << 20
	defaultQuota  = 1 << 30
	defaultGrace  = 10 * time.Second

	defaultStart     = 30 * time.Second
	defaultInterval  = 5 * time.Second
	defaultTimeout   = 2 * time.Second
	defaultFailures  = 3
	defaultProbation = time.Minute
)

// manifest puts together what the spec and the image's configuration say. Image is left
// to the caller.
func (s *Spec) manifest(tree *mkfs.Tree, config *v1.ConfigFile) (*release.AppManifest, []string, error) {
	c := config.Config
	m := &release.AppManifest{
		Format: release.AppFormat, Publisher: s.Publisher, Name: s.Name, Version: s.Version, Attempt: 1, MinUpdater: s.MinUpdater,
		Arch: cmp.Or(s.Arch, config.Architecture, "any"), Class: cmp.Or(s.Class, "app"),
		Isolation: release.AppIsolation{Level: cmp.Or(s.Isolation.Level, "container"), Kernel: s.Isolation.Kernel},
		Limits: release.AppLimits{
			Memory: int64(cmp.Or(s.Limits.Memory, defaultMemory)), CPU: cmp.Or(s.Limits.CPU, defaultCPU),
			Pids: cmp.Or(s.Limits.Pids, defaultPids), Files: cmp.Or(s.Limits.Files, defaultFiles),
			Tmp: int64(cmp.Or(s.Limits.Tmp, defaultTmp)), Log: int64(cmp.Or(s.Limits.Log, defaultLog)),
		},
		Network: s.network(c),
		Update: release.AppUpdate{Strategy: cmp.Or(s.Update.Strategy, "stop-start"), Restart: cmp.Or(s.Update.Restart, "always"),
			DataFormat: value(s.Update.DataFormat, 1), DataReads: value(s.Update.DataReads, value(s.Update.DataFormat, 1))},
		After: slices.Sorted(slices.Values(s.After)), Meta: s.Meta,
	}
	if m.MinUpdater.IsZero() {
		m.MinUpdater, _ = release.ParseVersion("0.1.0")
	}
	for _, p := range s.Permissions {
		m.Permissions = append(m.Permissions, release.AppPermission(p))
	}
	slices.SortFunc(m.Permissions, func(a, b release.AppPermission) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
	})
	warnings, err := s.run(m, tree, c)
	if err != nil {
		return nil, nil, err
	}
	s.data(m, c)
	s.health(m, c)
	if len(c.ExposedPorts) > 0 && len(m.Network.Publish) == 0 && m.Network.Mode == "private" {
		warnings = append(warnings, "the image exposes "+strings.Join(slices.Sorted(maps.Keys(c.ExposedPorts)), ", ")+
			": nobody reaches it unless network.publish says at which port of the host")
	}
	return m, warnings, nil
}

func value[T any](p *T, otherwise T) T {
	if p != nil {
		return *p
	}
	return otherwise
}

func span(p *release.Duration, otherwise time.Duration) release.Duration {
	return value(p, release.Duration(otherwise))
}

func (s *Spec) run(m *release.AppManifest, tree *mkfs.Tree, c v1.Config) (warnings []string, err error) {
	r := &m.Run
	if r.Argv = s.Run.Argv; len(r.Argv) == 0 {
		r.Argv = slices.Concat(c.Entrypoint, c.Cmd)
	}
	if len(r.Argv) == 0 {
		return nil, fmt.Errorf("run: the image names no command: set run.argv")
	}
	variables := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, e := range c.Env {
		name, v, _ := strings.Cut(e, "=")
		variables[name] = v
	}
	maps.Copy(variables, s.Run.Env)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		r.Env = append(r.Env, name+"="+variables[name])
	}
	r.Cwd = cmp.Or(s.Run.Cwd, c.WorkingDir, "/")
	who := value(s.Run.User, c.User)
	if r.UID, r.GID, err = user(tree, who); err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	if r.UID == 0 {
		warnings = append(warnings, "it runs as root of its own user namespace: set run.user if it need not")
	}
	if r.Signal, err = signal(cmp.Or(s.Run.Signal, c.StopSignal, "SIGTERM")); err != nil {
		return nil, err
	}
	r.Grace = span(s.Run.Grace, defaultGrace)
	if program := r.Argv[0]; strings.HasPrefix(program, "/") {
		if _, _, err := follow(tree, program); err != nil {
			return nil, fmt.Errorf("run: command %.80q: %w", program, err)
		}
	}
	if at, n, err := follow(tree, r.Cwd); err != nil || !n.IsDir() {
		return nil, fmt.Errorf("run: cwd %.80q: it is no directory of the image (%q, %v)", r.Cwd, at, err)
	}
	return warnings, nil
}

// signals are those that containers are asked to end with, by their numbers on Linux.
var signals = map[string]string{
	"1": "SIGHUP", "2": "SIGINT", "3": "SIGQUIT", "6": "SIGABRT", "9": "SIGKILL", "10": "SIGUSR1", "12": "SIGUSR2",
	"15": "SIGTERM", "28": "SIGWINCH", "37": "SIGRTMIN+3",
}

func signal(text string) (string, error) {
	if name, ok := signals[text]; ok {
		return name, nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	for _, known := range signals {
		if name == known {
			return name, nil
		}
	}
	return "", fmt.Errorf("run: signal %.20q: want one of %s", text, strings.Join(slices.Sorted(maps.Values(signals)), ", "))
}

func (s *Spec) network(c v1.Config) release.AppNetwork {
	n := release.AppNetwork{Mode: s.Network.Mode}
	for _, p := range s.Network.Publish {
		p.Proto = cmp.Or(p.Proto, "tcp")
		n.Publish = append(n.Publish, release.AppPort(p))
	}
	for _, o := range s.Network.Sockets {
		n.Sockets = append(n.Sockets, release.AppSocket(o))
	}
	if n.Mode == "" {
		n.Mode = "none"
		if len(n.Publish) > 0 || len(c.ExposedPorts) > 0 {
			n.Mode = "private"
		}
	}
	return n
}

// data gives each volume of the image, and each of the spec, a place.
func (s *Spec) data(m *release.AppManifest, c v1.Config) {
	said := map[string]bool{}
	for _, p := range s.SkipVolumes {
		said[p] = true
	}
	for _, v := range s.Data {
		said[v.Path] = true
		m.Data = append(m.Data, release.AppVolume{Name: cmp.Or(v.Name, volumeName(v.Path)), Path: v.Path,
			Class: cmp.Or(v.Class, "versioned"), Quota: int64(cmp.Or(v.Quota, defaultQuota))})
	}
	for _, p := range slices.Sorted(maps.Keys(c.Volumes)) {
		if p = path.Clean(p); !said[p] {
			m.Data = append(m.Data, release.AppVolume{Name: volumeName(p), Path: p, Class: "versioned", Quota: defaultQuota})
		}
	}
	slices.SortFunc(m.Data, func(a, b release.AppVolume) int { return strings.Compare(a.Name, b.Name) })
}

// volumeName makes a name of a path.
func volumeName(p string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(strings.Trim(p, "/")))
	return strings.TrimLeft(name, "._-")
}

// health takes the spec's check, or the image's.
func (s *Spec) health(m *release.AppManifest, c v1.Config) {
	h := &m.Health
	h.HTTP, h.TCP, h.Exec = s.Health.HTTP, s.Health.TCP, s.Health.Exec
	start, interval, timeout, failures := defaultStart, defaultInterval, defaultTimeout, defaultFailures
	if own := c.Healthcheck; own != nil && len(own.Test) > 1 && h.HTTP == "" && h.TCP == 0 && len(h.Exec) == 0 && !s.Health.None {
		switch own.Test[0] {
		case "CMD":
			h.Exec = own.Test[1:]
		case "CMD-SHELL":
			h.Exec = []string{"/bin/sh", "-c", own.Test[1]}
		}
		// What the image leaves out has Docker's meaning, not ours.
		start, interval = max(own.StartPeriod, time.Second), cmp.Or(own.Interval, 30*time.Second)
		timeout, failures = cmp.Or(own.Timeout, 30*time.Second), cmp.Or(own.Retries, 3)
		if own.StartPeriod == 0 {
			start = interval*time.Duration(failures) + timeout
		}
	}
	h.Start, h.Interval = span(s.Health.Start, start), span(s.Health.Interval, interval)
	h.Timeout, h.Failures = span(s.Health.Timeout, timeout), value(s.Health.Failures, failures)
	h.Probation = span(s.Health.Probation, defaultProbation)
}
