"""What a frozen encoder knows, without mmseg and mmdet."""
