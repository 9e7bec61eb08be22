"""Kernel modules of real servers: an image made in a virtual machine often has an initramfs with virtio alone.

A kernel that lacks one of them, being older or newer than it, goes without it.
"""

# Adapters for disks (SATA, NVMe, SAS, RAID), what virtual machines have, and keyboards, to type a passphrase on.
SERVER_DRIVERS = (
    "ahci", "nvme", "megaraid_sas", "mpt3sas", "mpt2sas", "mpi3mr", "hpsa", "smartpqi", "aacraid", "mptsas", "mvsas",
    "isci", "arcmsr", "3w-sas", "vmd", "ata_piix",
    "virtio_pci", "virtio_blk", "virtio_scsi", "vmw_pvscsi", "hv_storvsc", "sd_mod", "usb_storage", "uas",
    "usbhid", "hid_generic", "xhci_pci", "ehci_pci",
)  # fmt: skip
RAID_DRIVERS = ("md_mod", "raid0", "raid1", "raid10", "raid456", "dm_mod")
# What a passphrase at the start needs: LUKS2 as cryptsetup makes it is AES-XTS, its header hashed with SHA-256.
CRYPT_DRIVERS = ("dm_crypt", "aes_generic", "aesni_intel", "xts", "sha256_generic", "algif_skcipher")
# Not in the initramfs, as nothing boots over the network: the certificate says which of them the kernel has not.
NETWORK_DRIVERS = (
    "e1000e", "igb", "igc", "ixgbe", "i40e", "ice", "tg3", "bnx2", "bnx2x", "bnxt_en", "mlx4_en", "mlx5_core",
    "sfc", "qede", "be2net", "r8169", "virtio_net", "vmxnet3",
)  # fmt: skip
