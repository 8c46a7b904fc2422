// Package tryboot reads and writes autoboot.txt, by which a Raspberry Pi's firmware chooses
// the partition that it boots from.
//
// Section [all] names the partition that stands, section [tryboot] the one that is tried
// after a reboot with the argument "0 tryboot": once, because the firmware forgets that
// argument at every other start. To commit a trial is to exchange the two. The file has at
// most 512 bytes, so that one sector holds all of it and changes at once, in place. Format:
// Raspberry Pi's documentation, "autoboot.txt"; there is no reference tool.
//
// It is a codec: no Raspberry Pi has booted by it, and it is no backend.
package tryboot
