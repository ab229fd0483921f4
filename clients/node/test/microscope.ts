/** Returns the text file that a JEOL microscope writes next to an image of 640 by 480 pixels. */ export function
jeol(kilovolts: number): string {
  return `$CM_FORMAT JEOL/SEM
$CM_DATE 2019/03/12
$CM_TIME 10:21:55
$CM_INSTRUMENT JSM-7800F
$CM_ACCEL_VOLT ${kilovolts}
$CM_MAG 5000
$CM_SIGNAL SEI \\ lower
$CM_FULL_SIZE 640 440
$CM_STAGE_POS 57.656 -15.152 10.2 0.0 -1.5 0
$$SM_MICRON_BAR 20
$$SM_MICRON_MARKER 5um
$$SM_WD 9.7
`;
}
