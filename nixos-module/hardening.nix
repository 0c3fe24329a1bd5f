# What every service is denied. Where a unit is less strict, the reason stands beside it, after "Relaxed".
{
  NoNewPrivileges = true;
  RestrictSUIDSGID = true;
  RestrictNamespaces = true;
  RestrictRealtime = true;
  LockPersonality = true;
  MemoryDenyWriteExecute = true;
  SystemCallArchitectures = "native";
  SystemCallFilter = [
    "@system-service"
    "~@privileged @resources"
  ];
  # Refuse, do not kill: libraries try calls that they can do without.
  SystemCallErrorNumber = "EPERM";

  # It sees nothing that it could write to, no devices, and no other processes.
  ProtectSystem = "strict";
  ProtectHome = true;
  ProtectProc = "invisible";
  ProtectClock = true;
  ProtectHostname = true;
  ProtectControlGroups = true;
  ProtectKernelLogs = true;
  ProtectKernelModules = true;
  ProtectKernelTunables = true;
  PrivateTmp = true;
  PrivateDevices = true;
  PrivateIPC = true;
  PrivateMounts = true;
  RemoveIPC = true;
  UMask = "0077";
  KeyringMode = "private";
}
