"""Arrays in which all clips have one length: 2s-AGCN's and MS-G3D's folders, CTR-GCN's `.npz`."""
