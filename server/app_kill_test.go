package server

import (
	"os"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
)

// appDraft makes an image of an application, and the draft that describes it.
func appDraft(t *testing.T, v, path string) AppPublishOptions {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	i := release.Image{Name: release.AppImageName, Size: deltas.PaddedSize(info.Size()), Salt: release.Salt{1}}
	if i.Root, err = verity.Root(deltas.Pad(f, info.Size()), i.Size, i.Salt); err != nil {
		t.Fatal(err)
	}
	second := release.Duration(time.Second)
	return AppPublishOptions{Image: path, Deltas: 1, BlocksFrom: 1, Channels: []string{"stable"}, Draft: &release.AppManifest{
		Format: release.AppFormat, Publisher: "acme", Name: "web", Version: version(t, v), Attempt: 1, MinUpdater: version(t, "0.1.0"),
		Arch: "any", Class: "app", Image: i, Run: release.AppRun{Argv: []string{"/web"}, Cwd: "/", Signal: "SIGTERM", Grace: second},
		Isolation: release.AppIsolation{Level: "container"},
		Limits:    release.AppLimits{Memory: 64 << 20, CPU: 1000, Pids: 64, Files: 256, Tmp: 2 << 20, Log: 64 << 10},
		Network:   release.AppNetwork{Mode: "none"},
		Health:    release.AppHealth{Start: second, Interval: second, Timeout: second, Failures: 3, Probation: second},
		Update:    release.AppUpdate{Strategy: "stop-start", Restart: "always", DataFormat: 1, DataReads: 1},
	}}
}

// offeredApp is the version of an application that a host is offered, whole: its
// directive, its manifest and each of its payloads.
func (h *host) offeredApp(t *testing.T, s *Site) string {
	t.Helper()
	src := served(s.RepositoryDir())
	client, err := signing.Open(signing.Config{Dir: h.dir, Factory: h.factory, Now: h.clock.now})
	if err == nil {
		err = client.Refresh(t.Context(), src)
	}
	if err != nil {
		t.Fatalf("host: %v", err)
	}
	b, err := client.Target(t.Context(), src, release.AppDirectiveName("stable", "web"), release.MaxDirectiveSize)
	if err != nil {
		t.Fatalf("host: %v", err)
	}
	d, err := release.DecodeAppDirective(b)
	if err != nil {
		t.Fatalf("host: %v", err)
	}
	if b, err = client.Target(t.Context(), src, release.AppTargetName("acme", "web", d.Version), release.MaxAppManifestSize); err != nil {
		t.Fatalf("host: app %s is offered: %v", d.Version, err)
	}
	m, err := release.DecodeAppManifest(b)
	if err != nil {
		t.Fatalf("host: %v", err)
	}
	for _, b := range blobs([]release.Image{m.Image}, m.Deltas) {
		f, err := s.openBlob(t.Context(), b)
		if err != nil {
			t.Fatalf("host: app %s: %v", d.Version, err)
		}
		f.Close()
	}
	return d.Version.String()
}

func TestPublishOfAnApplicationKilledAtAnyEffectLeavesOldOrNewState(t *testing.T) {
	deaths := map[string]death{"reordered": reordered}
	if os.Getenv("TWINKEEL_LONG") != "" {
		deaths["killed"], deaths["power cut"] = kill, powerCut
	}
	for name, d := range deaths {
		t.Run(name, func(t *testing.T) {
			image := randomImage(t, 30_000, 1)
			killEverywhereSeen(t, d, sight{(*host).offeredApp, (*host).offeredApp},
				func(s *Site) {
					acme(t, s)
					if _, err := s.PublishApp(t.Context(), appDraft(t, "1.0", image)); err != nil {
						t.Fatal(err)
					}
				},
				func(s *Site) error {
					_, err := s.PublishApp(t.Context(), appDraft(t, "1.1", changedImage(t, image, 10_000)))
					return err
				},
				"1.0", "1.1")
		})
	}
}

func TestPublishThatNamesAnApplicationKilledAtAnyEffectLeavesOldOrNewState(t *testing.T) {
	if os.Getenv("TWINKEEL_LONG") == "" {
		t.Skip("a campaign plays it: the effects are those of any release")
	}
	image := randomImage(t, 20_000, 1)
	killEverywhere(t, reordered,
		func(s *Site) {
			acme(t, s)
			mustPublish(t, s, releaseOf(t, "1.0", image))
			in := appDraft(t, "7.0", image)
			in.Channels = nil
			if _, err := s.PublishApp(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		},
		func(s *Site) error {
			in := releaseOf(t, "1.1", changedImage(t, image, 5000))
			in.Apps = map[string]release.Version{"web": version(t, "7.0")}
			_, err := s.Publish(t.Context(), in)
			return err
		},
		"1.0", "1.1")
}

func acme(t *testing.T, s *Site) {
	t.Helper()
	if _, err := s.AddPublisher(t.Context(), AddPublisherOptions{Name: "acme", Like: "stable"}); err != nil {
		t.Fatal(err)
	}
}
