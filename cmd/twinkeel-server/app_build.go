package main

import (
	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/server/appbuild"
)

func newAppBuildCommand(t *terminal) *cobra.Command {
	in := appbuild.Options{Limits: appbuild.DefaultLimits()}
	cmd := &cobra.Command{
		Use:   "build --from IMAGE --manifest app.toml -o DIR",
		Short: "Make an application of a container image",
		Long: `Build turns a container image into DIR/NAME-VERSION.erofs, the files of the application,
and DIR/NAME-VERSION.json, the draft of its manifest. The same image and app.toml give the
same bytes and the same digest, whoever builds. It needs no root.

IMAGE is a tar of docker save, the directory of an OCI layout, or a reference of a registry.
Command, environment, user, directory, volumes, stop signal and health check are those of
the image; what app.toml says takes their place. Set-user-id bits, file capabilities and
device nodes do nothing on a host and are left out.

  docker save web:2.3.1 -o web.tar
  twinkeel-server app build --from web.tar --manifest app.toml -o build
  twinkeel-server app build --from registry.example.org/acme/web:2.3.1 --manifest app.toml \
      --version 2.3.1 -o build` + exitStatus,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := appbuild.Build(cmd.Context(), in)
			if err != nil {
				return err
			}
			return t.answer(r, func() {
				t.say("built %s/%s %s: %d files, %s", r.Publisher, r.Name, r.Version, r.Files, size(r.Size))
				t.say("  digest %s", r.Digest)
				t.say("  %s", r.Image)
				t.say("  %s", r.Draft)
				t.warn(r.Warnings)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.From, "from", "", "tar of docker save, OCI layout, or reference of a registry")
	f.StringVar(&in.Manifest, "manifest", "", "app.toml")
	f.StringVar(&in.Publisher, "publisher", "", "in place of what app.toml says")
	f.StringVar(&in.Name, "name", "", "in place of what app.toml says")
	f.Var(versionValue{&in.Version}, "version", "in place of what app.toml says")
	f.IntVar(&in.Limits.Files, "max-files", in.Limits.Files, "refuse images with more files")
	f.Var(sizeValue{&in.Limits.Bytes}, "max-size", "refuse images with more bytes in their layers; K, M, G")
	f.StringVarP(&in.Output, "output", "o", "", "directory for the result")
	require(cmd, "from", "manifest", "output")
	return cmd
}

// sizeValue is a flag that holds a number of bytes.
type sizeValue struct{ n *int64 }

func (f sizeValue) String() string {
	if f.n == nil {
		return ""
	}
	return size(*f.n)
}
func (f sizeValue) Type() string { return "size" }
func (f sizeValue) Set(s string) (err error) {
	*f.n, err = appbuild.ParseSize(s)
	return err
}
