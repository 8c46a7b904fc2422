// Package devmapper makes read-only verity devices by the kernel's device-mapper calls,
// and asks them whether they met damage.
//
// It stands in for dmsetup and veritysetup where no program but one is there. Source of
// the calls: linux/include/uapi/linux/dm-ioctl.h, interface version 4. It knows only
// what it is told to map.
package devmapper
