"""The lab: a small internet of mail on loopback addresses, in which every station of the road can be seen."""
